# glm2llama: `make quantize MODEL=dir` converts a model, `make test` proves that it works.

# What `make quantize` writes; several types, as in TYPE="Q4_K_M Q8_0", come from one reading of the model.
TYPE ?= Q4_K_M
# Where the synthetic full-size checkpoint of `make bench-6b` goes (12.5 GB, kept for the next time).
SYNTHETIC ?= target/synthetic-6b
# How long `make fuzz-smoke` runs each target.
FUZZ_SECONDS ?= 20

CONVERT := cargo run --quiet --release -- convert
TINY := testdata/models/tiny-chatglm3
# Where cargo puts what it builds.
TARGET = $$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
SOURCES := src quant/src Cargo.toml quant/Cargo.toml Cargo.lock
# A build takes minutes, in which cargo shows what it does; where nothing is to be built, nothing is said.
BUILD = @program="$(TARGET)/release/glm2llama"; \
	if [ ! -x "$$program" ] || [ -n "$$(find $(SOURCES) -newer "$$program")" ]; then \
		echo "Building glm2llama: a few minutes the first time."; cargo build --release; fi

.PHONY: help quantize test test-hf quality check check-windows check-aarch64 check-systems msrv fuzz-smoke deny wheel dist runtime bench bench-6b screenshot synthetic

# Show these targets.
help:
	@awk '/^# /{text=substr($$0,3)} /^[a-z0-9-]+:/{sub(/:.*/,""); printf "  make %-14s %s\n",$$0,text}' $(MAKEFILE_LIST)

# Convert MODEL=dir [TYPE=Q4_K_M] [OUT=file] [FORCE=1]; without MODEL, a tiny one from testdata.
quantize:
	$(BUILD)
ifdef MODEL
	$(CONVERT) "$(MODEL)" $(addprefix --type ,$(TYPE)) $(if $(OUT),--output "$(OUT)") $(if $(FORCE),--force)
else
	@echo "No MODEL=dir given: converting the tiny random model from testdata, to show the whole job."
	$(CONVERT) $(TINY) $(addprefix --type ,$(TYPE)) --output "$(or $(OUT),target/tiny-{type}.gguf)" --force
endif

# Tests whose outcome the kernels can change.
QUANTIZING := determinism imatrix llama_options llama_quantize llama_runtime lora quality synthetic verify

# Run every test, those that quantize with each of the machine's backends, with a real llama.cpp where npm has it.
test: runtime
	cargo test --workspace
	for backend in $$(cargo run --quiet -p glm2llama-quant --example backends | sed '$$d'); do \
		echo "again, quantizing with $$backend"; \
		GLM2LLAMA_BACKEND=$$backend cargo test --quiet --test it -- $(addsuffix ::,$(QUANTIZING)) || exit 1; \
	done

# The export in real transformers: logits, token ids, chats. Installs torch (5 GB) into target/hf-venv.
test-hf: target/hf-venv/installed
	cargo build --quiet --release
	target/hf-venv/bin/python tests/hf/check.py $(or $(CARGO_TARGET_DIR),target)/release/glm2llama
target/hf-venv/installed: tests/hf/requirements.txt
	python3 -m venv target/hf-venv
	target/hf-venv/bin/pip install --quiet --requirement tests/hf/requirements.txt
	touch target/hf-venv/installed

# LLAMA=dir of llama.cpp's programs; TOKENS: to predict of each kind of text, EXACT: in f32 arithmetic, which is slow;
# TEXTS=dir of held-out text, NAME.txt for each kind; CALIBRATION=dir of text for both programs to calibrate on.
# Divergence against bytes beside llama.cpp's own: MODEL=dir [TYPES="Q4_K_M Q2_K"] [TOKENS=10240] [EXACT=10240] [LLAMA=dir].
quality: $(if $(MODEL),,target/quality-model/config.json)
	cargo build --quiet --release
	python3 tests/quality/measure.py "$(or $(MODEL),target/quality-model)" --program "$(or $(CARGO_TARGET_DIR),target)/release/glm2llama" \
		$(if $(TYPES),--types $(TYPES)) $(if $(TOKENS),--tokens $(TOKENS)) $(if $(EXACT),--exact-tokens $(EXACT)) $(if $(LLAMA),--llama "$(LLAMA)") \
		$(if $(TEXTS),--texts "$(TEXTS)") $(if $(CALIBRATION),--calibration "$(CALIBRATION)")
target/quality-model/config.json: tests/quality/trained.py tests/quality/requirements.txt
	python3 -m venv target/quality-venv
	target/quality-venv/bin/pip install --quiet --requirement tests/quality/requirements.txt
	target/quality-venv/bin/python tests/quality/trained.py target/quality-model

# Formatting, lints and documentation, warnings denied.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy --no-default-features --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

# The tests on Windows, by wine; CONTRIBUTING.md says which cannot run there.
check-windows:
	.ci/cross windows test --workspace --tests --no-fail-fast

# The tests on 64-bit ARM, by qemu: the NEON kernels against the reference, too.
check-aarch64:
	.ci/cross aarch64 test --workspace --tests --no-fail-fast

# The tiny models in every type by the wheels' programs for the three systems: the same bytes.
check-systems:
	.ci/systems

# Build with the oldest compiler that `Cargo.toml` names; CI has no newer one.
msrv:
	cargo +$$(sed -n 's/^rust-version = "\(.*\)"/\1.0/p' Cargo.toml) check --workspace --all-targets --quiet

# Every fuzz target for FUZZ_SECONDS; needs cargo-fuzz and a nightly toolchain, and says so where they are not.
fuzz-smoke:
	@if ! cargo fuzz --version >/dev/null 2>&1 || ! cargo +nightly --version >/dev/null 2>&1; then \
		echo "skipped: needs 'cargo install cargo-fuzz' and a nightly toolchain"; exit 0; fi; \
	for target in $$(cargo +nightly fuzz list); do \
		echo "fuzzing $$target for $(FUZZ_SECONDS) s"; mkdir -p fuzz/corpus/$$target; \
		cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -rss_limit_mb=1024 \
			-timeout=10 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

# Licences, sources, doubles and known weaknesses of what is built in; needs cargo-deny.
deny:
	cargo deny check

# Wheels for pip (Linux with glibc 2.17, x86-64 and ARM; Windows), each installed and tried, into target/wheels.
wheel:
	.ci/wheel x86_64-linux
	.ci/wheel aarch64-linux
	.ci/wheel x86_64-windows

# Archives of what `make wheel` built, with licences, completions, man page, SBOM and SHA256SUMS, into target/dist.
dist:
	.ci/dist

# Fetch what tests and benchmarks run against, pinned: a prebuilt llama.cpp, engines of chat templates.
runtime:
	sh tests/llama/fetch.sh
	sh tests/conversations/fetch.sh

# Kernels against ggml's on the same rows: million weights a second, and the ratio.
bench: runtime
	cargo bench -p glm2llama-quant

# The whole job on a full-size checkpoint: time, peak memory and size, beside plain reading and writing.
bench-6b: synthetic
	cargo build --quiet --release
	GLM2LLAMA="$(TARGET)/release/glm2llama" \
	sh tests/full-size.sh "$(SYNTHETIC)"

# Draw docs/report.png (with Chromium) and docs/terminal.svg anew, from MODEL=dir, a small trained model; others get no grades.
screenshot:
	$(BUILD)
	GLM2LLAMA="$(TARGET)/release/glm2llama" sh docs/screenshot.sh "$(or $(MODEL),$(TINY))" docs/report.png
	python3 docs/terminal.py "$(TARGET)/release/glm2llama" "$(or $(MODEL),$(TINY))" docs/terminal.svg

# Write a checkpoint with ChatGLM3-6B's exact shapes and random weights.
synthetic: $(SYNTHETIC)/config.json
$(SYNTHETIC)/config.json:
	cargo run --quiet --release --example synthetic -- --full-size "$(SYNTHETIC)"
