"""The picture on the front page: points on a sphere, pulled together within a group and pushed apart between
groups.

It is computed, not drawn: gradient descent on the two forces, from random places, on the unit sphere.
"""

import numpy as np

from pullpush.looks import CLASS_COLOURS, PULL, PUSH

GROUPS, MEMBERS, STEPS = 5, 9, 240
SHOWN = (2, 4, 5, 7, 9)  # class colours of the groups: none that reads as pull or push
RADIUS = 100
TILT = 0.35  # radians from which the sphere is seen from above


def trajectories(seed: int = 4) -> np.ndarray:
    """Places of GROUPS * MEMBERS points on the unit sphere, (STEPS + 1, n, 3), row i belonging to group i //
    MEMBERS.

    Each step goes down the gradient of mean |x_i - x_j|^2 over pairs of one group plus mean exp(-2 |x_i -
    x_j|^2) over pairs of two groups: Wang & Isola's alignment and uniformity (arXiv:2005.10242), before the
    logarithm. A much shorter push between all points keeps those of a group from hiding each other.
    """
    rng = np.random.default_rng(seed)
    n = GROUPS * MEMBERS
    group = np.arange(n) // MEMBERS
    same = (group[:, None] == group) & ~np.eye(n, dtype=bool)
    other = group[:, None] != group
    x = rng.normal(size=(n, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    path = [x]
    for _ in range(STEPS):
        apart = x[:, None] - x
        weight = np.exp(-2 * (apart**2).sum(-1, keepdims=True))
        pull = (same[..., None] * apart).sum(1) / same.sum(1, keepdims=True)
        push = (other[..., None] * weight * apart).sum(1) / other.sum(1, keepdims=True)
        elbow = (np.exp(-40 * (apart**2).sum(-1, keepdims=True)) * apart).sum(1)
        x = x - 0.02 * pull + 0.35 * push + 0.04 * elbow
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        path.append(x)
    return np.stack(path)


def _seen(places: np.ndarray) -> np.ndarray:
    """Orthographic view from the front, a little from above: x right, y down, z towards the reader."""
    x, y, z = places[..., 0], places[..., 1], places[..., 2]
    return np.stack(
        [x * RADIUS, (-y * np.cos(TILT) + z * np.sin(TILT)) * RADIUS, z * np.cos(TILT) + y * np.sin(TILT)], -1
    )


def html(seed: int = 4) -> str:
    """Two spheres side by side: the forces on one point at the start, and all points on their way (CSS moves
    them).
    """
    path = _seen(trajectories(seed))
    first = (
        "Before training, points of five groups lie mixed on a sphere. Blue arrows pull the others of one "
        "point's group towards it; orange arrows push its neighbours of other groups away."
    )
    second = "After training, the same points form five tight groups, far from each other on the sphere."
    return (
        f'<div class="pp-idea"><figure>{_sphere(first, _forces(path[0]) + _dots(path[:1]))}'
        '<figcaption><span class="pp-pull">Pull</span> what belongs together, <span class="pp-push">push'
        f"</span> what does not</figcaption></figure><figure>{_sphere(second, _dots(path))}"
        "<figcaption>until each group has a place of its own</figcaption></figure></div>"
    )


def _sphere(alt: str, inner: str) -> str:
    rings = "".join(
        f'<ellipse rx="{RADIUS * np.cos(latitude):.1f}" ry="{RADIUS * np.cos(latitude) * np.sin(TILT):.1f}"'
        f' cy="{-RADIUS * np.sin(latitude) * np.cos(TILT):.1f}"/>'
        for latitude in (-0.6, 0.0, 0.6)
    )
    return (
        f'<svg viewBox="-112 -112 224 224" role="img" aria-label="{alt}">'
        f'<g fill="none" stroke="var(--pp-grid)"><circle r="{RADIUS}" stroke-width="1.5"/>{rings}</g>'
        f"{inner}</svg>"
    )


def _dots(path: np.ndarray) -> str:
    """One dot a point, the far side of the sphere paler; with more than one step, each follows its path."""
    dots = []
    for i in np.argsort(path[-1, :, 2]):
        shade = CLASS_COLOURS[SHOWN[i // MEMBERS]]
        near = path[-1, i, 2] > -0.15
        look = f'r="{5 if near else 3.8}" fill="{shade}" fill-opacity="{1 if near else 0.45}"'
        x, y = path[-1, i, :2]
        if len(path) == 1:
            dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" {look}/>')
            continue
        stops = path[np.unique(np.round(np.geomspace(1, len(path), 14)).astype(int) - 1), i, :2]
        way = "M" + "L".join(f"{a:.0f} {b:.0f}" for a, b in stops)
        dots.append(f'<circle class="pp-move" {look} style="offset-path:path(\'{way}\')"/>')
    return "".join(dots)


def _forces(places: np.ndarray) -> str:
    """Arrows on one point of the near side: towards its group, away from the closest points of others."""
    group = np.arange(len(places)) // MEMBERS
    flat, depth = places[:, :2], places[:, 2]
    anchor = int(np.argmax(depth - 0.004 * np.linalg.norm(flat, axis=1)))
    distance = np.linalg.norm(flat - flat[anchor], axis=1)
    near = depth > 0.1
    friends = [i for i in np.argsort(distance) if group[i] == group[anchor] and i != anchor and near[i]][:4]
    others = [i for i in np.argsort(distance) if group[i] != group[anchor] and near[i]][:4]
    lines = [
        _arrow(flat[i], flat[i] + (flat[anchor] - flat[i]) * (1 - 9 / distance[i]) * 0.9, PULL)
        for i in friends
    ]
    lines += [_arrow(flat[i], flat[i] + (flat[i] - flat[anchor]) / distance[i] * 30, PUSH) for i in others]
    x, y = flat[anchor]
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke="var(--pp-ink)" stroke-width="1.6"/>'
    return "".join(lines) + ring


def _arrow(start: np.ndarray, end: np.ndarray, shade: str) -> str:
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    base = end - 7 * along
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in (end, base + 4 * across, base - 4 * across))
    return (
        f'<path d="M{start[0]:.1f} {start[1]:.1f}L{base[0]:.1f} {base[1]:.1f}"'
        f' stroke="{shade}" stroke-width="2.4"/><polygon points="{head}" fill="{shade}"/>'
    )
