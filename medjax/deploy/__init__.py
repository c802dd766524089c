"""From a trained model to what runs elsewhere: smaller, quantised, exported."""
