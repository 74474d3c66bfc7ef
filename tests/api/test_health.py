from starlette.testclient import TestClient


def test_a_started_service_is_alive_and_ready(client: TestClient) -> None:
    answer = client.get("/healthz")
    assert answer.json() == {"status": "ok"}
    r = client.get("/readyz")
    print(r.status_code, r.text, r.headers)
    print(client.get("/metrics").text[-1500:])
    print(client.get("/docs").text)
    print(client.get("/static/swagger-ui/swagger-ui.css").status_code)
    print(client.get("/nope").text, client.post("/healthz").text)
    print(client.post("/healthz", content=b"x"*3_000_000).text)
    import json; print(json.dumps(client.get("/openapi.json").json())[:2000])

def test_b(client: TestClient) -> None:
    answer = client.get("/healthz")
