/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/faults/driver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNS_AT_ONCE_MAX 16
#define HANG_MS 10000
/* How long an orphan may take to end after the scenario. */
#define ORPHAN_MS 3000
/* Of one site, which may be in a loop. */
#define CALLS_MAX 64u

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void *share(size_t size, int fd)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
	if (map == MAP_FAILED)
		abort();
	return map;
}

/* ---- What a scenario says ---- */

static void say(char *to, size_t size, const char *format, va_list args)
{
	if (!to[0])
		vsnprintf(to, size, format, args);
}

void fault_report(struct fault_run *run, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say(run->error, sizeof(run->error), format, args);
	va_end(args);
}

void fault_violation(struct fault_run *run, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	say(run->violation, sizeof(run->violation), format, args);
	va_end(args);
}

bool fault_check(struct fault_run *run, const char *what, int ret, const struct wisp_error *error)
{
	if (ret >= 0)
		return true;
	if (error->status == WISP_OK || error->errnum <= 0 || ret != -error->errnum)
		fault_violation(run, "%s returned %d, with status %d and errno %d: %s", what, ret, (int)error->status,
		        error->errnum, error->message);
	/* An option that is refused or a name that is taken is not what happened. */
	else if (error->status == WISP_ERR_INVALID || error->status == WISP_ERR_NAME_TAKEN ||
	         error->status == WISP_ERR_PROTOCOL || error->status == WISP_ERR_VERSION)
		fault_violation(
		        run, "%s blames another: %s: %s", what, wisp_get_status_name(error->status), error->message);
	else if (strlen(error->message) < 10 || strstr(error->message, "Success"))
		fault_violation(run, "%s does not say what failed: '%s'", what, error->message);
	else
		fault_report(run, "%s: %s: %s", what, wisp_get_status_name(error->status), error->message);
	return false;
}

/* ---- One run, in a process of its own ---- */

static int count_entries(const char *path)
{
	int count = -2; /* "." and ".." */
	DIR *dir = opendir(path);
	if (!dir)
		return 0;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void check_processes(struct fault_run *run)
{
	static const struct timespec pause = {.tv_nsec = 2000000};
	int64_t end = now_ms() + ORPHAN_MS;
	while (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD) {
		if (now_ms() > end) {
			fault_violation(run, "a process is left");
			return;
		}
		nanosleep(&pause, NULL);
	}
}

static void check_plan(struct fault_run *run, const struct plan *plan)
{
	if (plan->ended != plan->begun)
		fault_violation(run, "%u of %u programs under test crashed or were killed", plan->begun - plan->ended,
		        plan->begun);
	if (plan->leaked)
		fault_violation(run, "memory has leaked");
}

static void run_scenario(const struct fault_scenario *scenario, struct fault_run *run)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	int before = count_entries("/proc/self/fd");
	scenario->run(run);
	fault_use(NULL);
	int after = count_entries("/proc/self/fd");
	if (after != before)
		fault_violation(run, "%d descriptors before, %d after", before, after);
	check_processes(run);
	check_plan(run, run->plan);
	if (count_entries(run->root) > 0)
		fault_violation(run, "files are left in the state root");
	if (fault_leaked())
		fault_violation(run, "memory has leaked");
}

static int remove_tree(int parent, const char *name)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			remove_tree(fd, entry->d_name);
	if (dir)
		closedir(dir);
	return unlinkat(parent, name, AT_REMOVEDIR);
}

/* ---- The faults of a scenario ---- */

struct slot {
	pid_t pid; /* 0: free */
	int64_t deadline_ms;
	struct fault_run *run; /* shared */
	struct site target;
	enum fault_how how;
};

struct tally {
	unsigned injected, reported, hidden, missed, violated;
};

static struct slot slots[RUNS_AT_ONCE_MAX];
static const char *program_path;

static void describe(const struct slot *slot, char *to, size_t size)
{
	static const char *const how[] = {"", "fails", "is interrupted", "moves half"};
	char command[PATH_MAX + 64], line[512] = "?\n";
	snprintf(command, sizeof(command), "addr2line -e '%s' -f -p 0x%llx 2>/dev/null", program_path,
	        (unsigned long long)slot->target.caller - (strncmp(slot->target.name, "io_uring op", 11) != 0));
	FILE *pipe = popen(command, "r");
	if (pipe) {
		if (!fgets(line, sizeof(line), pipe))
			line[0] = '\0';
		pclose(pipe);
	}
	line[strcspn(line, "\n")] = '\0';
	snprintf(to, size, "%s, call %u, in %s %s", slot->target.name, slot->target.calls, line, how[slot->how]);
}

static bool start(struct slot *slot, const struct fault_scenario *scenario)
{
	struct fault_run *run = slot->run;
	memset(run, 0, sizeof(*run));
	snprintf(run->dir, sizeof(run->dir), "/tmp/wisp-faults-XXXXXX");
	if (!mkdtemp(run->dir))
		return false;
	snprintf(run->root, sizeof(run->root), "%s/root", run->dir);
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/" PLAN_FILE, run->dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(*run->plan)) < 0)
		return false;
	run->plan = share(sizeof(*run->plan), fd);
	close(fd);
	run->plan->how = slot->how;
	run->plan->target = slot->target;
	fflush(stdout);
	slot->deadline_ms = now_ms() + HANG_MS;
	slot->pid = fork();
	if (slot->pid == 0) {
		run_scenario(scenario, run);
		_exit(0);
	}
	return slot->pid > 0;
}

/* It and what it has started, which may be in other process groups. */
static void kill_tree(pid_t pid)
{
	char path[64];
	int child;
	kill(pid, SIGSTOP);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	FILE *children = fopen(path, "r");
	while (children && fscanf(children, "%d", &child) == 1)
		kill_tree(child);
	if (children)
		fclose(children);
	kill(pid, SIGKILL);
}

static void judge(struct slot *slot, int status, struct tally *tally)
{
	struct fault_run *run = slot->run;
	char text[1024];
	if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0)
		fault_violation(run, "the test's process ended with status 0x%x", status);
	if (slot->how > FAULT_FAIL && run->error[0])
		fault_violation(run, "a caller should not notice: %s", run->error);
	if (slot->how == FAULT_NONE && run->error[0])
		fault_violation(run, "without a fault: %s", run->error);
	if (slot->how != FAULT_NONE && run->plan->hits == 0)
		tally->missed++;
	else if (slot->how != FAULT_NONE) {
		tally->injected++;
		tally->reported += run->error[0] != '\0';
		tally->hidden += run->error[0] == '\0';
	}
	if (run->violation[0] || getenv("FAULTS_VERBOSE")) {
		describe(slot, text, sizeof(text));
		printf("# %s: %s%s\n", text, run->violation[0] ? "VIOLATION " : "",
		        run->violation[0] ? run->violation : run->error);
		tally->violated += run->violation[0] != '\0';
	}
	remove_tree(AT_FDCWD, run->dir);
}

/* Waits for one run's end. False if there was none. */
static bool finish_one(struct tally *tally)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	bool any = false;
	for (unsigned i = 0; i < RUNS_AT_ONCE_MAX; i++) {
		struct slot *slot = &slots[i];
		int status;
		if (slot->pid == 0)
			continue;
		any = true;
		if (now_ms() > slot->deadline_ms) {
			fault_violation(slot->run, "hangs (%s)", slot->run->error);
			kill_tree(slot->pid);
			waitpid(slot->pid, &status, 0);
			status = 0;
		} else if (waitpid(slot->pid, &status, WNOHANG) != slot->pid) {
			continue;
		}
		slot->pid = 0;
		judge(slot, status, tally);
		munmap(slot->run->plan, sizeof(*slot->run->plan));
		return true;
	}
	/* Orphans of runs that were killed. */
	nanosleep(&pause, NULL);
	return any;
}

static void inject(const struct fault_scenario *scenario, const struct site *site, uint32_t call, enum fault_how how,
        unsigned at_once, struct tally *tally)
{
	for (;;) {
		for (unsigned i = 0; i < at_once; i++) {
			struct slot *slot = &slots[i];
			if (slot->pid != 0)
				continue;
			slot->target = *site;
			slot->target.calls = call;
			slot->how = how;
			if (!start(slot, scenario))
				abort();
			return;
		}
		finish_one(tally);
	}
}

static void inject_site(
        const struct fault_scenario *scenario, const struct site *site, unsigned at_once, struct tally *tally)
{
	for (uint32_t call = 1; call <= site->calls && call <= CALLS_MAX; call++) {
		if (site->fails)
			inject(scenario, site, call, FAULT_FAIL, at_once, tally);
		if (site->interrupts)
			inject(scenario, site, call, FAULT_INTERRUPT, at_once, tally);
		if (site->shortens)
			inject(scenario, site, call, FAULT_SHORTEN, at_once, tally);
	}
}

static void run_all(const char *suite, const struct fault_scenario *scenario, unsigned at_once, struct tally *sum)
{
	struct tally tally = {0};
	static struct plan known;
	slots[0].how = FAULT_NONE;
	memset(&slots[0].target, 0, sizeof(slots[0].target));
	if (!start(&slots[0], scenario))
		abort();
	struct plan *plan = slots[0].run->plan;
	int64_t begun = now_ms();
	int status;
	waitpid(slots[0].pid, &status, 0);
	slots[0].pid = 0;
	judge(&slots[0], status, &tally);
	known = *plan;
	munmap(plan, sizeof(*plan));
	for (uint32_t i = 0; i < known.sites; i++)
		inject_site(scenario, &known.site[i], at_once, &tally);
	while (finish_one(&tally))
		;
	printf("# %s: %u sites, %u faults injected: %u reported, %u without effect, %u not reached; %lld ms\n",
	        scenario->name, known.sites, tally.injected, tally.reported, tally.hidden, tally.missed,
	        (long long)(now_ms() - begun));
	printf("%s %s/%s\n", tally.violated || known.sites == 0 ? "FAIL" : "ok", suite, scenario->name);
	fflush(stdout);
	sum->injected += tally.injected;
	sum->reported += tally.reported;
	sum->hidden += tally.hidden;
	sum->violated += tally.violated + (known.sites == 0);
}

int fault_main(const char *suite, const char *program, const struct fault_scenario *scenarios, int argc, char **argv)
{
	struct tally sum = {0};
	/* Most of a run is waiting. */
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned at_once = processors < 1                      ? 2
	                   : processors > RUNS_AT_ONCE_MAX / 2 ? RUNS_AT_ONCE_MAX
	                                                       : (unsigned)processors * 2;
	program_path = program;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (unsigned i = 0; i < RUNS_AT_ONCE_MAX; i++)
		slots[i].run = share(sizeof(struct fault_run), -1);
	for (; scenarios->name; scenarios++) {
		bool wanted = argc < 2;
		for (int a = 1; a < argc; a++)
			wanted |= strcmp(argv[a], scenarios->name) == 0;
		if (wanted)
			run_all(suite, scenarios, at_once, &sum);
	}
	printf("%u faults injected into the %s: %u reported as errors, %u without effect, %u not handled\n",
	        sum.injected, suite, sum.reported, sum.hidden, sum.violated);
	return sum.violated ? 1 : 0;
}
