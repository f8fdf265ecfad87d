"""Repeat a request until killed, as a client that vanishes: `python -m reliability.asking HOST:PORT N < request`."""

import sys

import grpc

from reliability.http2 import INFER

DEADLINE_S = 30.0


def main() -> None:
    """Keep N requests in flight; print a line once they are."""
    url, count = sys.argv[1], int(sys.argv[2])
    request = sys.stdin.buffer.read()
    with grpc.insecure_channel(url, [("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(INFER)
        call(request, timeout=DEADLINE_S)
        under_way = [call.future(request, timeout=DEADLINE_S) for _ in range(count)]
        print("asks", flush=True)
        while True:
            under_way.pop(0).result()
            under_way.append(call.future(request, timeout=DEADLINE_S))


if __name__ == "__main__":
    main()
