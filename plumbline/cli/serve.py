"""`plumbline serve`: the embedded model server, which speaks TensorFlow Serving's two protocols."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    *,
    model_base_path: Annotated[
        Path | None,
        typer.Option(help="Folder with one numbered folder a version. [default: models/NAME in the data folder]"),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="Name under which the model is served. [default: from the settings]")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of gRPC; 0 takes a free one.")] = 8500,
    rest_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of REST; 0 takes a free one.")] = 8501,
    rest: Annotated[bool, typer.Option(help="Whether to speak REST too.")] = True,
    poll_seconds: Annotated[
        float, typer.Option(min=0.05, max=3600, help="Time between two looks for a new version.")
    ] = 1.0,
    op_threads: Annotated[
        int, typer.Option(min=1, max=1024, help="Threads that one operation of a model may use.")
    ] = 1,
    keep_versions: Annotated[
        int, typer.Option(min=1, max=64, help="How many of the newest versions are served at once.")
    ] = 1,
    model_config_file: Annotated[
        Path | None,
        typer.Option(help="Models, policies and labels as a ModelServerConfig in text; no other model is served then."),
    ] = None,
    model_config_file_poll_wait_seconds: Annotated[
        float, typer.Option(min=0, max=86400, help="Time between two looks at that file; 0 reads it once.")
    ] = 0.0,
    allow_version_labels_for_unavailable_models: Annotated[
        bool,
        typer.Option(
            "--allow-version-labels-for-unavailable-models",
            help="Let a label that is not in use go to a version that is not served yet.",
        ),
    ] = False,
    max_num_load_retries: Annotated[
        int, typer.Option(min=0, help="How often a version that did not load is tried again while its files stay.")
    ] = 5,
    load_retry_interval_seconds: Annotated[float, typer.Option(min=0, help="Time between two of these tries.")] = 60.0,
    rest_api_enable_cors_support: Annotated[
        bool, typer.Option("--rest-api-enable-cors-support", help="Let web pages of any origin call REST.")
    ] = False,
    enable_grpc_healthcheck_service: Annotated[
        bool, typer.Option("--enable-grpc-healthcheck-service", help="Speak gRPC's health protocol.")
    ] = False,
    enable_grpc_reflection: Annotated[
        bool, typer.Option("--enable-grpc-reflection", help="Tell gRPC tools of the services and their messages.")
    ] = False,
    enable_serialization_as_tensor_content: Annotated[
        bool,
        typer.Option(
            "--enable-serialization-as-tensor-content", help="Answer numbers as bytes, not in the field of their type."
        ),
    ] = False,
    enable_batching: Annotated[
        bool, typer.Option("--enable-batching", help="Compute calls that come at the same time as one.")
    ] = False,
    batching_parameters_file: Annotated[
        Path | None, typer.Option(help="How, as BatchingParameters in text; defaults without one.")
    ] = None,
    enable_model_warmup: Annotated[
        bool, typer.Option(help="Let a version answer the warm-up requests in its folder before it is served.")
    ] = True,
    monitoring_config_file: Annotated[
        Path | None, typer.Option(help="Whether and where Prometheus reads metrics, as MonitoringConfig in text.")
    ] = None,
    ssl_config_file: Annotated[
        Path | None, typer.Option(help="Key and certificates of the gRPC port, as SSLConfig in text; none: no TLS.")
    ] = None,
    json_ready: Annotated[
        bool,
        typer.Option(
            "--json-ready", help="Print a JSON line when the ports are held, and one for each version served."
        ),
    ] = False,
) -> None:
    """Serve the newest versions in a folder over gRPC and REST, until interrupted."""
    from plumbline.settings import load
    from serving import wire_pb2 as wire
    from serving.server import batching, monitoring, text_proto, tls
    from serving.server.process import Options, run
    from serving.server.versions import Retries

    if batching_parameters_file and not enable_batching:
        raise typer.BadParameter("--batching-parameters-file supplied without --enable-batching")
    batches = text_proto.read(batching_parameters_file, wire.BatchingParameters)
    metrics = text_proto.read(monitoring_config_file, wire.MonitoringConfig)
    ssl = text_proto.read(ssl_config_file, wire.SSLConfig)
    settings = load()
    name = model_name or settings.model_name
    options = Options(
        model_name=name,
        base_path=model_base_path or settings.data_path / "models" / name,
        host=host,
        port=port,
        rest_port=rest_port if rest else None,
        poll_seconds=poll_seconds,
        op_threads=op_threads,
        keep_versions=keep_versions,
        config_file=model_config_file,
        config_poll_seconds=model_config_file_poll_wait_seconds,
        labels_ahead=allow_version_labels_for_unavailable_models,
        cors=rest_api_enable_cors_support,
        health=enable_grpc_healthcheck_service,
        reflection=enable_grpc_reflection,
        tensor_content=enable_serialization_as_tensor_content,
        retries=Retries(max_num_load_retries, load_retry_interval_seconds),
        warm_up=enable_model_warmup,
        batching=batching.parameters(batches) if enable_batching else None,
        metrics_path=monitoring.prometheus_path(metrics) if rest else None,
        credentials=tls.credentials(ssl) if ssl_config_file else None,
    )
    run(options, _print_json if json_ready else _print)


def _print_json(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _print(event: dict[str, Any]) -> None:
    if event["state"] == "listening":
        rest = f", REST on {event['host']}:{event['rest_port']}" if event["rest_port"] is not None else ""
        print(f"gRPC on {event['host']}:{event['port']}{rest}", flush=True)
    else:
        print(f"serving {event['model']} version {event['version']}", flush=True)
