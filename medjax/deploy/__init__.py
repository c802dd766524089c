"""From a trained model to what runs elsewhere: smaller, quantised, exported."""

from medjax.deploy.bare import stand_in

stand_in()  # the runtime needs neither JAX nor jaxtyping, and reads scans like everything else
