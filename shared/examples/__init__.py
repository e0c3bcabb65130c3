"""Examples for those who use the gateway: copy one, set two variables, run it. Each is executed by a test.

export LITELLM_URL=https://... LITELLM_API_KEY=sk-...    # a virtual key, not the master key
pip install openai
python shared/examples/completion.py
"""
