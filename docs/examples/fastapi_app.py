"""A FastAPI server that holds one model and brings others on demand.

    MODELS_ROOT=/srv/models MODEL=t2v-A14B@2.2.0 uvicorn fastapi_app:app --workers 4

Workers that start together bring an absent model once. Replace `load` by what loads yours, for
example ``wanrec.pipelines.load(model, torch_dtype=torch.bfloat16).to("cuda")``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, HTTPException

import wanrec

MODEL = os.environ.get("MODEL", "t2v-A14B@2.2.0")


def load(path: Path) -> dict[str, int]:
    """Stands for loading weights: the files of a model and their sizes."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in files}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the model for as long as the server runs: it is neither swapped nor evicted."""
    async with wanrec.aio.use(MODEL) as path:
        app.state.weights = load(path)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Ready when the model is whole; stats only, so it may be asked every second."""
    status = await wanrec.aio.status(MODEL)
    if status.state != "COMPLETE":
        raise HTTPException(503, f"{MODEL} is {status.state}")
    return {"model": MODEL, "state": status.state}


@app.get("/weights")
async def weights() -> dict[str, int]:
    """Stands for inference."""
    return app.state.weights  # type: ignore[no-any-return]  # what the lifespan put there


@app.post("/models/{model}")
async def bring(model: str) -> dict[str, int]:
    """Bring another model while requests go on being answered."""
    try:
        return load(await wanrec.aio.ensure(model))
    except wanrec.WanrecError as error:
        status = 404 if error.code == "MODEL_NOT_FOUND" else 503
        raise HTTPException(status, error.to_dict()) from error
