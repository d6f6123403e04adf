"""A review service that stays up while what it stands on does not. Start reading at `policies.py`.

python -m examples.review_service             the demonstration: an outage without the policies, and with them
python -m examples.review_service serve       the service, and a stand-in for the provider next to it
python -m examples.review_service token       an access token, to try it out

controllers/  routes: from HTTP to use cases and back      services/     the use cases
auth/         tokens, keys, and the provider behind them   models/       tables, sessions, queries
policies.py   what happens when one of them fails          problems.py   what the caller is told then
"""
