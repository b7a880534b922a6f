"""Fair hyperparameter studies over model x loss arms."""
