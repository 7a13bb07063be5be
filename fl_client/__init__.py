"""One hospital: data, key, encrypted store, local training and the Flower ClientApp."""
