"""Where data enters: named datasets, feeds with a position that can be saved, augmentation."""
