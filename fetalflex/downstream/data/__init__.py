"""What is learnt and what is tested: labelled images, the two tasks, the arms, augmentation."""
