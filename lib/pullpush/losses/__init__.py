"""Contrastive losses: one a file, each a pure function of tensors that returns a scalar.

Cosine embedding and triplet margin are torch's own: `cosine_embedding_loss` and `triplet_margin_loss` in
`torch.nn.functional`. NT-Xent, its debiased form, SupCon and uniformity go through large batches
in tiles; `plain_forms` turns that off.
"""

from pullpush.losses._others import plain_forms
from pullpush.losses.alignment import alignment
from pullpush.losses.cluster_contrast import cluster_contrast
from pullpush.losses.cluster_sharpening import cluster_sharpening, sharpened, student_t
from pullpush.losses.debiased import debiased_nt_xent
from pullpush.losses.margin_contrastive import margin_contrastive
from pullpush.losses.masked_nt_xent import masked_nt_xent
from pullpush.losses.nnclr import nearest_in, nnclr
from pullpush.losses.nt_xent import nt_xent
from pullpush.losses.size_prior import size_prior
from pullpush.losses.soft_contrast import soft_contrast
from pullpush.losses.sup_con import sup_con
from pullpush.losses.uniformity import uniformity

__all__ = [
    "alignment",
    "cluster_contrast",
    "cluster_sharpening",
    "debiased_nt_xent",
    "margin_contrastive",
    "masked_nt_xent",
    "nearest_in",
    "nnclr",
    "nt_xent",
    "plain_forms",
    "sharpened",
    "size_prior",
    "soft_contrast",
    "student_t",
    "sup_con",
    "uniformity",
]
