# SPDX-License-Identifier: Apache-2.0
# One image for the operator, the forecaster and the watchdog; the chart names the command.
FROM ghcr.io/astral-sh/uv:0.13.8 AS uv

FROM python:3.13-slim AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_PROJECT_ENVIRONMENT=/opt/embellie \
    UV_COMPILE_BYTECODE=1 \
    UV_COMPILE_BYTECODE_TIMEOUT=900 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
# The dependencies first: they change less often than our own code.
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --no-install-project
COPY README.md LICENSE NOTICE ./
COPY operator operator
COPY forecasting forecasting
RUN uv sync --frozen --no-dev --no-editable

FROM python:3.13-slim
LABEL org.opencontainers.image.title="embellie" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="Energy-aware orchestration of GPU training on Kubernetes"
COPY --from=build /opt/embellie /opt/embellie
COPY LICENSE NOTICE /usr/share/doc/embellie/
# Libraries that keep something at home find the one folder that a pod may write.
ENV HOME=/tmp \
    PATH=/opt/embellie/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# The same numbers as in the chart's security context.
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["embellie"]
CMD ["--help"]
