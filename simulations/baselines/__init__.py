"""What a federated model has to beat: classifiers of plain images, pooled over sites, on the same split."""
