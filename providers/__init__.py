"""Where bytes come from: one small class per kind of source."""
