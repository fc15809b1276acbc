/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-bench: its arithmetic, what it reads of monitors and guests, and what it writes for programs. */
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/bench/manifest.h"
#include "vmm/bench/side.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The values are numpy.percentile's of the same samples. */
static void percentiles_are_type_7(void)
{
	static const int64_t four[] = {10, 20, 30, 40}, one[] = {7}, wide[] = {0, INT64_MAX}, below[] = {-30, -10};
	CHECK_EQ(bench_percentile(four, 4, 0), 10);
	CHECK_EQ(bench_percentile(four, 4, 500), 25);
	CHECK_EQ(bench_percentile(four, 4, 900), 37);
	CHECK_EQ(bench_percentile(four, 4, 950), 39); /* 38.5 */
	CHECK_EQ(bench_percentile(four, 4, 1000), 40);
	CHECK_EQ(bench_percentile(one, 1, 0), 7);
	CHECK_EQ(bench_percentile(one, 1, 990), 7);
	CHECK_EQ(bench_percentile(below, 2, 500), -20);
	int64_t middle = bench_percentile(wide, 2, 500);
	CHECK(middle > INT64_MAX / 2 - 1000 && middle < INT64_MAX / 2 + 1000);
}

static void summaries(void)
{
	int64_t values[] = {5, 1, 4, 2, 3}, room[5];
	struct bench_summary s;
	bench_summarize_copy(values, 5, room, &s);
	CHECK(values[0] == 5 && values[4] == 3); /* the runs' order is kept */
	CHECK(s.n == 5 && s.min == 1 && s.p50 == 3 && s.max == 5);
	CHECK_EQ(s.p90, 5); /* 4.6 */
	bench_summarize(values, 5, &s);
	CHECK(values[0] == 1 && values[4] == 5);
	bench_summarize(values, 0, &s);
	CHECK_EQ(s.n, 0);
}

static void ratios_have_intervals(void)
{
	int64_t a[] = {10, 10, 10}, b[] = {20, 20, 20, 20}, zero[] = {0, 0}, one[] = {30};
	int64_t low[40], high[40], low_again[40], high_again[40];
	struct bench_ratio r, again;
	REQUIRE(bench_compare(a, 3, b, 4, &r));
	CHECK(r.ratio == 2 && r.low == 2 && r.high == 2);
	REQUIRE(bench_compare(a, 3, one, 1, &r));
	CHECK(r.ratio == 3 && r.low == 3 && r.high == 3);
	CHECK(!bench_compare(zero, 2, a, 3, &r)); /* nothing to divide by */
	CHECK(bench_compare(a, 3, zero, 2, &r) && r.ratio == 0);
	CHECK(!bench_compare(a, 0, b, 4, &r) && !bench_compare(a, 3, b, 0, &r));

	for (int64_t i = 0; i < 40; i++) {
		low[i] = low_again[i] = 1000 + i * 7 % 40;
		high[i] = high_again[i] = 1500 + i * 11 % 40;
	}
	REQUIRE(bench_compare(low, 40, high, 40, &r) && bench_compare(low_again, 40, high_again, 40, &again));
	CHECK(r.low < r.ratio && r.ratio < r.high);
	CHECK(r.low > 1.45 && r.high < 1.55); /* the medians are 1019.5 and 1519.5, the spread is 4 % */
	CHECK(r.low == again.low && r.high == again.high);
	REQUIRE(bench_compare(low, 40, low_again, 40, &r));
	CHECK(r.ratio == 1 && r.low < 1 && r.high > 1);
}

static void traces_are_read(void)
{
	static const char trace[] = "{\"stage\":\"main\",\"ns\":1000,\"exits\":1}\n"
	                            "{\"stage\":\"of another version\",\"ns\":1100}\n"
	                            "{\"stage\":\"first_run\",\"ns\":1500,\"exits\":4}\n";
	struct bench_sample s = {0};
	CHECK_STR(bench_stages[BENCH_MAIN].name, "main");
	CHECK_STR(bench_stages[BENCH_FIRST_RUN].name, "first_run");
	REQUIRE(bench_parse_trace(trace, &s));
	CHECK_EQ(bench_begin(&s), 1000);
	CHECK_EQ(bench_took(&s, BENCH_FIRST_RUN), 500);
	CHECK_EQ(bench_took(&s, BENCH_MAIN), -1);     /* the first */
	CHECK_EQ(bench_took(&s, BENCH_EXITED), -1);   /* not reached */
	CHECK_EQ(bench_exits(&s, BENCH_MAIN, 0), -1); /* none before it */
	CHECK_STR(bench_counters[0], "exits");
	CHECK_EQ(bench_exits(&s, BENCH_FIRST_RUN, 0), 3);
	CHECK(!bench_parse_trace("{\"stage\":\"main\",\"ns\":1000}", &s)); /* cut off */
	CHECK(!bench_parse_trace("no trace\n", &s));
	CHECK(!bench_parse_trace("{\"stage\":\"main\"}\n", &s));
	CHECK(bench_parse_trace("", &s));
}

static void lines_of_guests(void)
{
	static const char *const others[] = {"", "wisp-bench:", "wisp-bench: ", "[ 0.1] Linux", "wisp-bench: begin",
	        "wisp-bench: end read-4k-1 1 2 3 4", "wisp-bench: end read-4k-1 1 2 3 4 5 6",
	        "wisp-bench: end read-4k-1 0 2 3 4 5", /* no request */
	        "wisp-bench: end read-4k-1 1 2 0 4 5", /* no time */
	        "wisp-bench: readyish", "wisp-bench: begin a b"};
	struct bench_guest_line line;
	for (size_t i = 0; i < COUNT(others); i++) {
		if (bench_parse_guest_line(others[i], &line))
			printf("# '%s' is taken for a line of ours\n", others[i]);
		CHECK(!bench_parse_guest_line(others[i], &line));
	}
	REQUIRE(bench_parse_guest_line("wisp-bench: begin read-4k-1", &line));
	CHECK_EQ(line.type, BENCH_LINE_BEGIN);
	CHECK_STR(line.name, "read-4k-1");
	/* As a console has it. */
	REQUIRE(bench_parse_guest_line("\033[0mwisp-bench: end write-1m 10 20 30 40 50\r", &line));
	CHECK_EQ(line.type, BENCH_LINE_END);
	CHECK_STR(line.name, "write-1m");
	CHECK(line.result.requests == 10 && line.result.bytes == 20 && line.result.ns == 30);
	CHECK(line.result.p99_ns == 40 && line.result.interrupts == 50);
	CHECK(line.result.exits == -1 && line.result.syscalls == -1);
	REQUIRE(bench_parse_guest_line("wisp-bench: ready\r", &line));
	CHECK_EQ(line.type, BENCH_LINE_READY);
	REQUIRE(bench_parse_guest_line("wisp-bench: fail /dev/vdb: No such file or directory\r", &line));
	CHECK_EQ(line.type, BENCH_LINE_FAIL);
	CHECK_STR(line.name, "/dev/vdb: No such file or directory");
	char name[200] = "wisp-bench: begin ";
	memset(name + strlen(name), 'x', sizeof(name) - strlen(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK(!bench_parse_guest_line(name, &line));
}

static void words(void)
{
	char text[] = "  qemu -append 'a \"b\" c' x\"y z\"w \t '' \n", *word[8] = {NULL};
	REQUIRE(bench_split_words(text, word, 8) == 5);
	CHECK_STR(word[0], "qemu");
	CHECK_STR(word[2], "a \"b\" c");
	CHECK_STR(word[3], "xy zw");
	CHECK_STR(word[4], "");
	char more[] = "a b c d";
	CHECK_EQ(bench_split_words(more, word, 2), 2);
}

/* ---- Results ---- */

static struct bench_options options;
static struct cli_places places = {.state_root = (char[]){""}, .libdir = (char[]){""}, .cache_dir = (char[]){""}};
static struct bench bench;

static void begin_bench(const char *peer)
{
	options = (struct bench_options){.peer = peer};
	bench = (struct bench){.verb = "blk", .options = &options, .places = &places, .runs = 3, .warmup = 1};
}

static void end_bench(void)
{
	for (size_t i = 0; i < bench.metric_count; i++)
		free(bench.metric[i].values);
}

static void results_are_rates(void)
{
	begin_bench("peer");
	struct bench_metric *rate = bench_add_results(&bench, "read-4k-1", "1/ks", "requests", "request");
	struct bench_metric *bytes = bench_add_results(&bench, "read-1m", "kB/s", "bytes", "request");
	REQUIRE(rate && bytes && bench.metric_count == 2 * BENCH_RESULT_METRICS);
	struct bench_result result = {.requests = 2000,
	        .bytes = 8192000,
	        .ns = 500000000,
	        .p99_ns = 123456,
	        .exits = 5000,
	        .interrupts = -1,
	        .syscalls = 3000};
	bench_add_result(rate, false, &result);
	CHECK_EQ(rate[0].values[0], 4000000); /* 4000 a second, in 1000 s */
	CHECK_EQ(rate[1].values[0], 123456);
	CHECK_EQ(rate[2].values[0], 2500); /* 2.5 each */
	CHECK_EQ(rate[3].count, 0);        /* not known */
	CHECK_EQ(rate[4].values[0], 1500);
	result.exits = result.syscalls = -1;
	result.interrupts = 2000;
	bench_add_result(bytes, true, &result);
	CHECK_EQ(bytes[0].peer[0], 16384); /* kB/s */
	CHECK_EQ(bytes[2].peer_count, 0);
	CHECK_EQ(bytes[3].peer[0], 1000);
	CHECK_EQ(bytes[4].peer_count, 0);
	CHECK_EQ(bytes[0].count, 0);
	CHECK_STR(rate[1].name, "read-4k-1 p99");
	CHECK_STR(rate[2].per, "request");
	CHECK_STR(rate[4].name, "read-4k-1 syscalls");
	int64_t room[3], other[3];
	struct bench_ratio ratio;
	CHECK(!bench_compare_peer(rate, room, other, &ratio)); /* nothing of the peer */
	bench_add_result(rate, true, &result);
	CHECK(bench_compare_peer(rate, room, other, &ratio) && ratio.ratio == 1);
	end_bench();
	begin_bench(NULL);
	rate = bench_add_results(&bench, "x", "1/ks", "", "");
	CHECK(rate && !rate->peer);
	while (bench_add_metric(&bench, "x", "ns", "", 1))
		;
	CHECK_EQ(bench.metric_count, BENCH_METRICS_MAX);
	end_bench();
}

/* ---- A peer's lines ---- */

static void lines_have_times(void)
{
	struct bench_side side = {.name = "the peer", .out = -1};
	struct bench_guest_line kernel = {0}, init = {0}, more = {0};
	begin_bench("sh -c 'sleep 0.1; echo wisp-bench: begin kernel; sleep 0.2; printf wisp-; sleep 0.1; "
	            "printf \"bench: begin init\\nwisp-bench: begin more\\n\"; exec sleep 100'");
	bench.signal_fd = -1;
	uint64_t before = bench_now();
	REQUIRE(bench_start_peer(&bench, &side) == 0);
	REQUIRE(bench_read_side(&bench, &side, &kernel) && bench_read_side(&bench, &side, &init));
	REQUIRE(bench_read_side(&bench, &side, &more));
	uint64_t after = bench_now();
	bench_stop_side(&side);
	CHECK_STR(kernel.name, "kernel");
	CHECK_STR(init.name, "init");
	/* From when it was started: how late this process woke up is in the difference of two lines. */
	CHECK(side.began >= before && kernel.at >= side.began + 100000000 && init.at >= side.began + 300000000);
	/* A line's time is its first byte's: that of `more` came with the end of `init`. */
	CHECK(more.at >= side.began + 400000000 && more.at > init.at && more.at <= after);
	CHECK(kernel.counts.exits == -1 && kernel.counts.syscalls == -1);
	options.peer = "/no/peer";
	CHECK_EQ(bench_start_peer(&bench, &side), 125);
	bench_stop_side(&side);
	end_bench();
}

static void counts_are_of_the_time_between(void)
{
	struct bench_counts before = {.exits = 100, .syscalls = -1}, after = {.exits = 130, .syscalls = 50};
	struct bench_result result = {.exits = 7, .syscalls = 7};
	bench_set_counts(&result, &before, &after);
	CHECK(result.exits == 30 && result.syscalls == -1); /* not known at first */
	before = (struct bench_counts){.exits = 130, .syscalls = 20};
	after.exits = -1;
	bench_set_counts(&result, &before, &after);
	CHECK(result.exits == -1 && result.syscalls == 30);
}

/* What came with the beginning is counted with it: a count that is taken later would exceed the end's. */
static void lines_that_come_together_are_counted_together(void)
{
	static const char text[] = "wisp-bench: begin a\nwisp-bench: end a 1 1 1 1 1\n";
	struct bench_side side = {.name = "the peer"};
	struct bench_guest_line first = {0}, last = {0};
	int ends[2];
	begin_bench("");
	bench.signal_fd = -1;
	REQUIRE(pipe(ends) == 0 && write(ends[1], text, sizeof(text) - 1) == sizeof(text) - 1);
	side.out = ends[0];
	bench_watch_syscalls(&side.syscalls, getpid());
	CHECK(bench_read_side(&bench, &side, &first) && first.type == BENCH_LINE_BEGIN);
	CHECK(bench_read_side(&bench, &side, &last) && last.type == BENCH_LINE_END);
	CHECK_EQ(first.counts.syscalls, last.counts.syscalls);
	if (first.counts.syscalls < 0)
		test_skipped = "this kernel counts no system calls for us";
	bench_unwatch_syscalls(&side.syscalls);
	close(ends[0]);
	close(ends[1]);
	end_bench();
}

static void *call_a_hundred(void *unused)
{
	for (unsigned i = 0; i < 100; i++)
		syscall(SYS_getppid);
	return unused;
}

/* Where the kernel counts them for us, also those of a thread that began later. (A sanitizer may have one as well.) */
static void system_calls_are_counted(void)
{
	struct bench_syscalls syscalls = {0};
	pthread_t thread;
	CHECK_EQ(bench_count_syscalls(&syscalls), -1);
	bench_watch_syscalls(&syscalls, -1);
	CHECK_EQ(bench_count_syscalls(&syscalls), -1); /* no such process */
	bench_watch_syscalls(&syscalls, getpid());
	int64_t before = bench_count_syscalls(&syscalls);
	if (before < 0)
		SKIP("this kernel counts no system calls for us");
	call_a_hundred(NULL);
	int64_t after = bench_count_syscalls(&syscalls);
	CHECK(after - before > 100 && after - before < 200); /* and those that read the counter */
	REQUIRE(pthread_create(&thread, NULL, call_a_hundred, NULL) == 0);
	pthread_join(thread, NULL);
	int64_t last = bench_count_syscalls(&syscalls);
	CHECK(last - after > 100 && last - after < 250);
	bench_unwatch_syscalls(&syscalls);
	CHECK_EQ(bench_count_syscalls(&syscalls), -1);
}

/* True if the brackets and strings of a JSON text match, and it is one value. */
static bool balanced(const char *text)
{
	char open[32];
	size_t depth = 0;
	bool string = false;
	for (; *text && *text != '\n'; text++) {
		if (string) {
			if (*text == '\\')
				text++;
			else
				string = *text != '"';
		} else if (*text == '"') {
			string = true;
		} else if (*text == '{' || *text == '[') {
			if (depth == sizeof(open))
				return false;
			open[depth++] = *text == '{' ? '}' : ']';
		} else if (*text == '}' || *text == ']') {
			if (depth == 0 || open[--depth] != *text)
				return false;
		}
	}
	return depth == 0 && !string && strcmp(text, "\n") == 0;
}

static char *written(void (*write)(const struct bench *bench, FILE *to))
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);
	if (!to)
		abort();
	write(&bench, to);
	fclose(to);
	return text;
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part)) {
		printf("# no %s in %.2000s\n", part, text);
		test_failed = true;
	}
}

static void metrics_are_written(void)
{
	begin_bench("peer");
	bench.interrupted = 2;
	bench.manifest = bench_read_manifest(&bench);
	struct bench_metric *metric = bench_add_metric(&bench, "rate", "1/ks", "a \"what\"", 3);
	REQUIRE(metric && bench.manifest);
	metric->values[metric->count++] = 300;
	metric->values[metric->count++] = 100;
	metric->peer[metric->peer_count++] = 400;
	char *json = written(bench_write_json);
	CHECK(balanced(json));
	has(json, "{\"schema\":\"wisp-bench-1\",\"benchmark\":\"blk\",\"interrupted\":true,\"warmup\":1,");
	has(json, "\"metrics\":[{\"name\":\"rate\",\"unit\":\"1/ks\",\"what\":\"a \\\"what\\\"\",\"samples\":[300,100],"
	          "\"summary\":{\"n\":2,\"min\":100,\"p50\":200,\"p90\":280,\"p95\":290,\"p99\":298,\"max\":300},"
	          "\"peer\":{\"samples\":[400],\"summary\":{\"n\":1,\"min\":400,");
	has(json, "\"wisp_to_peer\":{\"ratio_ppm\":500000,\"low_ppm\":250000,\"high_ppm\":750000}}]");
	has(json, "\"configurations\":[]}");
	has(json, "\"manifest\":{\"date\":\"");
	free(json);
	char *csv = written(bench_write_csv);
	CHECK_STR(csv, "metric,unit,sample,value,of\nrate,1/ks,1,300,wisp\nrate,1/ks,2,100,wisp\n"
	               "rate,1/ks,1,400,peer\n");
	free(csv);
	char *text = NULL;
	size_t size = 0;
	bench.text = open_memstream(&text, &size);
	REQUIRE(bench.text);
	bench_print_text(&bench);
	fclose(bench.text);
	has(text, "interrupted: these are the runs until then");
	has(text, "wisp / peer 0.50 [0.25, 0.75] (1)");
	free(text);
	bench_free_manifest(bench.manifest);
	end_bench();
}

static void stages_are_written(void)
{
	static struct bench_sample samples[3];
	begin_bench(NULL);
	bench.verb = "compare";
	for (size_t i = 0; i < 3; i++)
		samples[i] = (struct bench_sample){
		        .run = i + 1, .at = {[BENCH_MAIN] = 1000, [BENCH_READY] = 2000 + 100 * i}};
	bench.config_count = 2;
	bench.config[0] = (struct bench_config){.label = "a", .samples = samples, .count = 3};
	bench.config[1] = (struct bench_config){
	        .label = "b", .samples = samples, .count = 2, .failures = 1, .failure = "it \"fell\""};
	bench.manifest = bench_read_manifest(&bench);
	REQUIRE(bench.manifest);
	char *json = written(bench_write_json);
	CHECK(balanced(json));
	has(json, "\"name\":\"b\",\"options\":\"\",\"runs\":3,\"completed\":2,\"failed\":1,\"first_failure\":\"it "
	          "\\\"fell\\\"\"");
	has(json, "\"at_ns\":{\"n\":3,\"min\":1000,\"p50\":1100,");
	has(json, "\"run\":1,\"begin_ns\":1000,\"at_ns\":{\"main\":0,\"ready\":1000}");
	has(json, "\"comparison\":[{\"name\":");
	free(json);
	char *csv = written(bench_write_csv);
	has(csv, "configuration,run,stage,owner,at_ns,took_ns,");
	has(csv, "\na,3,ready,");
	free(csv);
	bench_free_manifest(bench.manifest);
}

TEST_MAIN("bench", {"percentiles_are_type_7", percentiles_are_type_7}, {"summaries", summaries},
        {"ratios_have_intervals", ratios_have_intervals}, {"traces_are_read", traces_are_read},
        {"lines_of_guests", lines_of_guests}, {"words", words}, {"results_are_rates", results_are_rates},
        {"lines_have_times", lines_have_times},
        {"lines_that_come_together_are_counted_together", lines_that_come_together_are_counted_together},
        {"counts_are_of_the_time_between", counts_are_of_the_time_between},
        {"system_calls_are_counted", system_calls_are_counted}, {"metrics_are_written", metrics_are_written},
        {"stages_are_written", stages_are_written})
