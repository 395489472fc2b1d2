"""The model's account of the measured point: a burst on the machine on which the costs were measured."""

# A prediction that is further off is a fault of the model, or of the measurement.
TOLERANCE = 1.5


def checked(costs):
    """Returns the lateness that the costs imply for the measured burst, in seconds.

    All of a burst is due at once, and is worked off at a constant rate. The database, the service and the client share the
    cores, and nothing is armed meanwhile.
    """
    point, fire = costs["point"], costs["fire"]
    cpu_s = (fire["database_cpu_us"] + fire["service_cpu_us"] + fire["client_cpu_us"]) / 1e6
    per_s = point["cores"] / cpu_s
    within = lambda part: part * point["one_shots"] / per_s
    return {"per_s": per_s, "p50_s": within(0.5), "p99_s": within(0.99)}


def is_within_tolerance(costs):
    predicted, point = checked(costs), costs["point"]
    ratios = [predicted[f"{part}_s"] * 1e3 / point[f"lateness_{part}_ms"] for part in ("p50", "p99")]
    return all(1 / TOLERANCE <= ratio <= TOLERANCE for ratio in ratios)
