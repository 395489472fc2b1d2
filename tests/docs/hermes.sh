# The real hermes-agent on PATH (`make hermes`).
PATH=$PATH:$CHECKOUT/target/hermes-venv/bin
