/* SPDX-License-Identifier: Apache-2.0 */
/* wisp stats, of the fake monitor's numbers (test_manage.h). */
#include <regex.h>

#include "tests/unit/test_cli.h"

static void people_and_programs_read_it(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	expect(&c, "create -q -n box; wisp stats box | sed '/, of which/s/, of which.*//; /^[pm].*memory/d'", 0,
	        "sandbox          box, running for 3.50 s\n"
	        "processor time   1.10 s: 0.10 s for devices, 1.00 s of virtual CPUs\n"
	        "guest's memory   64.0 MiB in memory, 48.0 MiB shared in proportion, 32.0 MiB private, 4.0 KiB "
	        "swapped\n"
	        "vda              1.0 KiB in 10 operations to the guest, 2.0 KiB in 20 from it, 5 others\n"
	        "vsock            11 B in 1 operations to the guest, 22 B in 2 from it\n"
	        "exits            100: io 30, halt 60\n"
	        "sessions         1 running, 2 ended, 3 failed to start\n");
	expect(&c, "create -q -n two; wisp pause two; wisp stats | awk '{ print $1, $2, $3, $7, $8, $9, $NF }'", 0,
	        "NAME STATE UPTIME DISK READ WRITTEN SESSIONS\n"
	        "box running 3.50 48.5 MiB 1.0 1\ntwo paused 3.50 48.5 MiB 1.0 1\n");
	expect(&c, "wisp stats --json box | sed 's/\"guest\":[0-9]*,\"loop/\"loop/'", 0,
	        "[{\"name\":\"box\",\"state\":\"running\",\"uptime_ns\":3500000000,"
	        "\"cpu_ns\":{\"total\":1100000000,\"loop\":100000000,\"vcpus\":[600000000,400000000]},"
	        "\"resident\":68157440,"
	        "\"guest_memory\":{\"resident\":67108864,\"pss\":50331648,\"private\":33554432,\"swapped\":4096},"
	        "\"monitor_memory\":{\"resident\":1048576,\"pss\":524288,\"private\":262144,\"swapped\":0},"
	        "\"devices\":{\"vda\":{\"bytes_to_guest\":1024,\"bytes_from_guest\":2048,\"operations_to_guest\":10,"
	        "\"operations_from_guest\":20,\"operations_other\":5},\"vsock\":{\"bytes_to_guest\":11,"
	        "\"bytes_from_guest\":22,\"operations_to_guest\":1,\"operations_from_guest\":2,\"operations_other\":0}}"
	        ","
	        "\"exits\":{\"total\":100,\"io\":30,\"halt\":60},"
	        "\"sessions\":{\"running\":1,\"ended\":2,\"failed\":3}}]\n");
	expect_error(&c, "wisp stats none", 125, "there is no sandbox 'none'");
	expect_error(&c, "wisp stats --json --prometheus", 125, "contradict");
	expect_error(&c, "wisp stats --watch --prometheus", 125, "omit --watch");
	expect_error(&c, "wisp stats --interval 1s", 125, "requires --watch");
	/* A line for each time, until a signal. */
	expect(&c, "wisp stats --watch --interval 10ms --json box | head -n 3 | cut -c 1-14; wisp rm -f box two", 0,
	        "[{\"name\":\"box\"\n[{\"name\":\"box\"\n[{\"name\":\"box\"\n");
	expect(&c, "wisp stats --json; wisp stats --prometheus | grep -vc ^#", 1, "[]\n0\n");
	end(&c);
}

static void a_terminal_is_redrawn(void)
{
	static struct cli c;
	struct cli_terminal t;
	if (!begin(&c))
		return;
	expect(&c, "create -q -n box", 0, "");
	REQUIRE(terminal_start(&t, "stats --watch --interval 20ms", NULL));
	for (int i = 0; i < 3; i++)
		CHECK(terminal_shows(&t, "\033[H\033[2JNAME") && terminal_shows(&t, "box"));
	terminal_type(&t, "\003");
	CHECK_EQ(terminal_wait(&t), 128 + SIGINT);
	terminal_close(&t);
	expect(&c, "wisp rm -f box", 0, "");
	end(&c);
}

/* ---- Prometheus: the rules of its text format, as promtool checks them ---- */

static bool matches(const char *line, const char *pattern)
{
	regex_t regex;
	if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		abort();
	bool is = regexec(&regex, line, 0, NULL, 0) == 0;
	regfree(&regex);
	return is;
}

#define METRIC "[a-zA-Z_:][a-zA-Z0-9_:]*"
#define LABEL "[a-zA-Z_][a-zA-Z0-9_]*=\"([^\"\\\n]|\\\\[\\\\\"n])*\""

/* HELP, TYPE, then samples of that name alone. Each family comes once, and a counter ends with _total. */
static void check_format(char *text, char families[64][128], size_t *count)
{
	char name[128] = "", *rest = text, *line;
	size_t length = strlen(text);
	CHECK(length > 0 && text[length - 1] == '\n');
	while ((line = strsep(&rest, "\n")) && rest) {
		char type[16];
		if (matches(line, "^# HELP " METRIC " [^\\\n]+\\.$")) {
			sscanf(line, "# HELP %127s", name);
			for (size_t i = 0; i < *count; i++)
				CHECK(strcmp(families[i], name) != 0);
			snprintf(families[(*count)++], 128, "%s", name);
		} else if (matches(line, "^# TYPE " METRIC " (counter|gauge)$")) {
			char typed[128];
			sscanf(line, "# TYPE %127s %15s", typed, type);
			CHECK_STR(typed, name);
			CHECK_EQ(matches(name, "_total$"), strcmp(type, "counter") == 0);
			CHECK(!matches(name, "_(count|sum|bucket|info)$"));
		} else {
			if (!matches(line, "^" METRIC "\\{" LABEL "(," LABEL ")*\\} [0-9]+(\\.[0-9]+)?$") ||
			        strncmp(line, name, strlen(name)) != 0 || line[strlen(name)] != '{') {
				printf("# bad line: %s\n", line);
				test_failed = true;
			}
		}
	}
}

static void prometheus_reads_it(void)
{
	static struct cli c;
	static char families[64][128];
	size_t count = 0;
	if (!begin(&c))
		return;
	expect(&c,
	        "create -q -n box; create -q -n a.b-c; wisp stats --prometheus >p; grep -c 'sandbox=\"box\"' p >n1; "
	        "grep "
	        "-c 'sandbox=\"a.b-c\"' p >n2; cmp n1 n2 && grep -E 'device_bytes|vcpu_sec|proportional' p | grep "
	        "'\"box\"'",
	        0,
	        "wisp_sandbox_vcpu_seconds_total{sandbox=\"box\",vcpu=\"0\"} 0.600000000\n"
	        "wisp_sandbox_vcpu_seconds_total{sandbox=\"box\",vcpu=\"1\"} 0.400000000\n"
	        "wisp_sandbox_memory_proportional_bytes{sandbox=\"box\",part=\"guest\"} 50331648\n"
	        "wisp_sandbox_memory_proportional_bytes{sandbox=\"box\",part=\"monitor\"} 524288\n"
	        "wisp_sandbox_device_bytes_total{sandbox=\"box\",device=\"vda\",direction=\"to_guest\"} 1024\n"
	        "wisp_sandbox_device_bytes_total{sandbox=\"box\",device=\"vda\",direction=\"from_guest\"} 2048\n"
	        "wisp_sandbox_device_bytes_total{sandbox=\"box\",device=\"vsock\",direction=\"to_guest\"} 11\n"
	        "wisp_sandbox_device_bytes_total{sandbox=\"box\",device=\"vsock\",direction=\"from_guest\"} 22\n");
	sh(&c, "cat p; wisp rm -f box a.b-c");
	check_format(c.out, families, &count);
	CHECK_EQ(count, 17);
	end(&c);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"people_and_programs_read_it", people_and_programs_read_it},
	        {"a_terminal_is_redrawn", a_terminal_is_redrawn},
	        {"prometheus_reads_it", prometheus_reads_it},
	};
	return test_main("cli_stats", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
