"""What the last apply put under the root, and the locks and journals that guard it."""
