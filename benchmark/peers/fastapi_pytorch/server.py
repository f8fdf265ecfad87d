"""A simple server with FastAPI and PyTorch: `python -m uvicorn benchmark.peers.fastapi_pytorch.server:app`."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import torch
from altreco_client import contract
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from benchmark.peers.answers import Answer, best, read_bodies
from benchmark.peers.tuning import given, repository

torch.set_num_threads(given().threads)
modules = torch.load(os.environ["PEER_MODULES"], weights_only=False)
tags = (repository() / contract.CLASSIFIER.name / contract.LABELS_FILE).read_text(encoding="utf-8").splitlines()
# One request at a time uses all threads; several at once would only compete for them.
one_at_a_time = ThreadPoolExecutor(1)
app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> JSONResponse:
    """Answer a request with the bytes of picture and history."""
    body = await request.body()
    return JSONResponse(await asyncio.get_running_loop().run_in_executor(one_at_a_time, _answer, body))


@torch.inference_mode()
def _answer(body: bytes) -> Answer:
    image, counts = map(torch.from_numpy, read_bodies([body], contract.IMAGE.dims))
    encoding = modules[contract.VISUAL_ENCODER.name](image)
    preference, prior = modules[contract.PREFERENCE_ENCODER.name](counts)
    scores = modules[contract.CLASSIFIER.name](encoding, preference, prior)
    return best(scores[0].numpy(), tags)
