"""Railway's GraphQL API, as far as a stack needs it; `blocks/railway.py` is the way in.

access       address, kinds of tokens, headers: light, for whoever asks without the rest
documents    every GraphQL document that is ever sent
models       what comes back, typed; nothing secret in a repr
redaction    what must not be said
budget       the rate limit, kept on this side
client       one document to and fro: timeouts, errors on HTTP 200, what may be tried again
session      ids, the guards, who is protected
services, deployments, variables, volumes, environment      the verbs, by topic
waiting      until a deployment or a workflow has ended, however it ends
capabilities what the token may do
certainty    a change whose answer was lost
api          all of it together
"""
