"""The HTTP gateway: pictures in, tags as JSON out, for callers in any language.

pip install 'altreco-client[gateway]'
altreco gateway --url localhost:8001 --port 8080
"""
