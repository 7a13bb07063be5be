"""From a file's stored pixels to the 8-bit images a viewer would see and a training cipher hides."""
