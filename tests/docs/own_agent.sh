# The example agent beside the page, and on PATH a Python with its libraries (`make own-agent`).
ln -s "$CHECKOUT/examples/agents/agent.py" .
PATH=$CHECKOUT/target/own-agent-venv/bin:$PATH
