"""Run the double: `python -m tests.doubles.stripe --port 12111`."""

import argparse

from tests.doubles.stripe import Server


def main() -> None:
    parser = argparse.ArgumentParser(description="A Stripe double for trying payouts on one machine.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111)
    chosen = parser.parse_args()
    server = Server((chosen.host, chosen.port))
    print(
        f"Stripe double at http://{chosen.host}:{server.server_port}; any key that begins with sk_test_ will do.",
        flush=True,
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
