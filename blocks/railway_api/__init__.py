"""Railway's GraphQL API, as far as a stack needs it; `blocks/railway.py` is the way in.

    access                  address, kinds of tokens, headers; light, for whoever asks without the rest
    documents               every GraphQL document that is ever sent
    models, deployment      what comes back, typed
    redaction               what must not be said
    budget                  the rate limit, kept on this side
    client                  one document to and fro: timeouts, errors on HTTP 200, what may be tried again
    session                 where it acts, and the guards
    services, deployments, variables, volumes, environment      the verbs, by topic
    waiting                 until a deployment or an operation has ended, however it ends
    capabilities            what the token may do
    certainty               a change whose answer was lost
    api                     all of it together

Each imports only those above it.
"""
