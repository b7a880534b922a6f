"""Knowledge graph embedding: models, losses, training and filtered ranking. Torch and numpy only."""
