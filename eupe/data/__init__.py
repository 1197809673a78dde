"""Sources of training images by kind; a kind is one module."""
