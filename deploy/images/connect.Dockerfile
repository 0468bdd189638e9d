# Kafka Connect for the profile `connect`: the broker's image and our plugins, fetched by hash.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG KAFKA_IMAGE=apache/kafka:4.3.1

FROM ${PYTHON_IMAGE} AS plugins
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
COPY requirements-local.lock .
# Only what resolves and fetches is needed, but the lock is one, and this stage is thrown away.
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --quiet --require-hashes -r requirements-local.lock
COPY . .
RUN /opt/venv/bin/python -m deploy.images.connect_plugins /opt/plugins

FROM ${KAFKA_IMAGE}
COPY --from=plugins /opt/plugins /opt/order-pipeline/plugins
COPY deploy/images/connect.properties deploy/local/servers/log4j2.properties /etc/order-pipeline/
EXPOSE 8083
# By class instead of by script: the scripts write logs beside themselves.
CMD ["java", "-XX:+ExitOnOutOfMemoryError", "-Dlog4j2.configurationFile=/etc/order-pipeline/log4j2.properties", \
     "-cp", "/opt/kafka/libs/*", "org.apache.kafka.connect.cli.ConnectDistributed", "/etc/order-pipeline/connect.properties"]
