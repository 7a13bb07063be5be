"""The plain app's client."""

from __future__ import annotations

import time

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from .task import evaluate, load_part, make_model, train

app = ClientApp()


@app.train()
def train_message(message: Message, context: Context) -> Message:
    """Train one epoch."""
    model = make_model(str(context.run_config["model"]))
    images, labels = load_part(str(context.node_config["images"]), "train")
    began = time.monotonic()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    train(
        model,
        images,
        labels,
        batch_size=int(context.run_config["batch-size"]),
        lr=float(context.run_config["lr"]),
    )
    measures = {"num-examples": len(labels), "seconds": time.monotonic() - began}
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(dict(measures))})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate_message(message: Message, context: Context) -> Message:
    """Measure the model on the validation images."""
    model = make_model(str(context.run_config["model"]))
    images, labels = load_part(str(context.node_config["images"]), "validation")
    began = time.monotonic()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    measures = evaluate(model, images, labels, batch_size=int(context.run_config["batch-size"]))
    measures |= {"num-examples": len(labels), "seconds": time.monotonic() - began}
    return Message(content=RecordDict({"metrics": MetricRecord(measures)}), reply_to=message)
