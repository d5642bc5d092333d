"""Say when: Prometheus-format rules, evaluated and notified."""
