"""One hospital: data, key, hidden store, local training and the Flower ClientApp."""
