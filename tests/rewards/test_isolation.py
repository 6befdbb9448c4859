"""The test run itself: cut off from the network, on one thread, with the shapes of tensors checked."""

import socket

import jaxtyping
import pytest
import torch

from molrl.schedule import alpha


def test_connecting_to_another_machine_is_refused() -> None:
    with socket.socket() as client, pytest.raises(RuntimeError, match=r"203\.0\.113\.1"):
        client.connect(("203.0.113.1", 80))  # an address reserved for documentation


def test_looking_up_another_machine_is_refused() -> None:
    with pytest.raises(RuntimeError, match="example"):
        socket.getaddrinfo("example.invalid", 443)


def test_connecting_to_this_machine_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as client:
            assert client.getpeername() == address


def test_torch_computes_on_one_thread() -> None:
    assert torch.get_num_threads() == 1


def test_a_tensor_that_its_signature_does_not_allow_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="log_snr"):
        alpha(torch.tensor([1, 2]))  # whole numbers
