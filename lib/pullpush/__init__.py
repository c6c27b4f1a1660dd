"""Pull & Push: contrastive learning, reproduced. The parts that the notebooks in `book/` call."""
