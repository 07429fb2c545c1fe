"""A child process has tables of its own."""

import threading

from conftest import World, in_child


def test_a_child_starts_fresh_and_the_parent_notices_nothing(world: World) -> None:
    connection = world.connect()
    parent_fd = world.engine.fileno()

    def child() -> None:
        assert connection.message('{"type":"ping"}').reason == "misuse_handle"
        assert connection.identity is None
        assert not connection.closed()
        assert world.engine.connections == 0
        assert world.engine.poll() == []
        assert world.engine.fileno() != parent_fd
        own = world.connect()
        assert own.message('{"type":"ping"}')
        assert world.engine.authorize_deliveries([connection, own], "listing.changed", listing_id="42") == [own]
        world.engine.revoke(subject="ann", issuer="https://id.example.com")

    in_child(child)
    assert connection.message('{"type":"ping"}')
    assert world.engine.connections == 1


def test_a_fork_while_other_threads_decide() -> None:
    world = World().start(limits={"messages_per_user": {"count": 1_000_000, "per": "1s", "burst": 1_000_000}})
    stop = threading.Event()

    def decide() -> None:
        connection = world.connect()
        while not stop.is_set():
            connection.message('{"type":"ping"}')
            world.engine.poll()

    def poll() -> None:
        while not stop.is_set():
            world.engine.metrics()

    threads = [threading.Thread(target=decide), threading.Thread(target=poll)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):

            def child() -> None:
                assert world.engine.connections == 0
                assert world.connect().message('{"type":"ping"}')

            in_child(child)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
