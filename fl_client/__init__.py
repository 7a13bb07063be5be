"""One hospital: data, key, sealed store, local training and the Flower ClientApp."""
