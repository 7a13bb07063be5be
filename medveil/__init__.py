"""Ground floor of MedVeil: errors, files, configuration, logging and the wire contract."""
