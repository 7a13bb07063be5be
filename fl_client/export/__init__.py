"""A model a hospital can use: kept at home, calibrated, exported, asked for predictions."""
