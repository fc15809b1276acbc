/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runs in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open. A run is a process, an owner of
 * stages is a thread, and a stage is a slice. Times are microseconds with three digits.
 */
#include "vmm/bench/bench.h"

static void put_us(FILE *to, const char *key, uint64_t ns)
{
	fprintf(to, ",\"%s\":%llu.%03llu", key, (unsigned long long)ns / 1000, (unsigned long long)ns % 1000);
}

static void put_names(size_t pid, const struct bench_config *config, const struct bench_sample *sample, FILE *to)
{
	fprintf(to, ",\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%zu,\"args\":{\"name\":\"%s run %zu\"}}", pid,
	        config->label, sample->run);
	for (size_t i = 0; i < BENCH_OWNERS; i++)
		fprintf(to,
		        ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%zu,\"tid\":%zu,\"args\":{\"name\":\"%s\"}}",
		        pid, i + 1, bench_owners[i]);
}

static void put_sample(size_t pid, uint64_t zero, const struct bench_sample *sample, FILE *to)
{
	for (size_t i = 0; i < BENCH_STAGES; i++) {
		int64_t took = bench_took(sample, i);
		if (took < 0)
			continue;
		fprintf(to, ",\n{\"ph\":\"X\",\"name\":\"%s\",\"cat\":\"%s\",\"pid\":%zu,\"tid\":%d",
		        bench_stages[i].name, bench_owners[bench_stages[i].owner], pid, (int)bench_stages[i].owner + 1);
		put_us(to, "ts", sample->at[i] - (uint64_t)took - zero);
		put_us(to, "dur", (uint64_t)took);
		fprintf(to, ",\"args\":{\"what\":\"%s\"", bench_stages[i].what);
		for (size_t c = 0; c < BENCH_COUNTERS; c++) {
			int64_t exits = bench_exits(sample, i, c);
			if (exits >= 0)
				fprintf(to, ",\"%s\":%lld", bench_counters[c], (long long)exits);
		}
		fputs("}}", to);
	}
}

void bench_write_perfetto(const struct bench *bench, FILE *to)
{
	uint64_t zero = UINT64_MAX;
	size_t pid = 1;
	for (size_t i = 0; i < bench->config_count; i++) {
		for (size_t s = 0; s < bench->config[i].count; s++) {
			uint64_t begin = bench_begin(&bench->config[i].samples[s]);
			zero = begin < zero ? begin : zero;
		}
	}
	fprintf(to,
	        "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
	        "{\"ph\":\"M\",\"name\":\"trace_name\",\"pid\":0,\"args\":{\"name\":\"wisp bench %s\"}}",
	        bench->verb);
	for (size_t i = 0; i < bench->config_count; i++) {
		for (size_t s = 0; s < bench->config[i].count; s++, pid++) {
			put_names(pid, &bench->config[i], &bench->config[i].samples[s], to);
			put_sample(pid, zero, &bench->config[i].samples[s], to);
		}
	}
	fputs("\n]}\n", to);
}
