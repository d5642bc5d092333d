"""Values that every part of the collector passes about: labels, matchers, samples, spans, errors."""
