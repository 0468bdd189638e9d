from deploy.local.servers.kafka_controller import new_cluster_id


def test_cluster_id_never_looks_like_an_option() -> None:
    """One random id in 64 began with a dash, and the format tool took it for an option."""
    for first in range(256):
        identity = new_cluster_id(bytes([first]) + b"\xff" * 15)
        assert len(identity) == 22
        assert identity[0].isalpha()
