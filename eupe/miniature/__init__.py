"""The embedded family: experts, a proxy and a student that are trained on the embedded world, on two CPU cores."""
