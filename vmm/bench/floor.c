/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp bench floor: the monitor's own time, from its exec() to its guest's first signal and to its end. The guest is a
 * few instructions, so any /dev/kvm runs it natively. It is started as the library starts it, without disks and
 * initramfs. With --peer, another monitor starts the same guest, in turns; both are then seen in the same way: from
 * exec() to the line that the guest writes to the first serial port, which the monitor passes on to a pipe of ours.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/bench/bench.h"

#define PAYLOAD_ADDR 0x100000u
#define XEN_ELFNOTE_PHYS32_ENTRY 18u

/*
 * The payload as an ELF file: wisp enters it in 64-bit mode at e_entry, monitors that know PVH enter it in 32-bit mode
 * where the note says. The instructions mean the same in both modes. Without a peer the stamp is the signal, and what
 * writes to the serial port is passed over.
 */
#define LINE BENCH_GUEST_MARK "begin " BENCH_GUEST_KERNEL "\n"

struct payload {
	Elf64_Ehdr header;
	Elf64_Phdr load, note;
	struct {
		Elf64_Nhdr header;
		char name[4];
		uint32_t entry;
	} pvh;
	uint8_t say[17], code[20];
	char line[sizeof(LINE)];
};

#define ADDR_OF(member) (PAYLOAD_ADDR + offsetof(struct payload, member))
#define BYTES(number) (number) & 0xff, (number) >> 8 & 0xff, (number) >> 16 & 0xff, (number) >> 24

static const struct payload payload = {
        .header =
                {
                        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                        .e_type = ET_EXEC,
                        .e_machine = EM_X86_64,
                        .e_version = EV_CURRENT,
                        .e_entry = ADDR_OF(say),
                        .e_phoff = offsetof(struct payload, load),
                        .e_ehsize = sizeof(Elf64_Ehdr),
                        .e_phentsize = sizeof(Elf64_Phdr),
                        .e_phnum = 2,
                },
        .load =
                {
                        .p_type = PT_LOAD,
                        .p_flags = PF_R | PF_W | PF_X,
                        .p_vaddr = PAYLOAD_ADDR,
                        .p_paddr = PAYLOAD_ADDR,
                        .p_filesz = sizeof(struct payload),
                        .p_memsz = sizeof(struct payload),
                        .p_align = 4096,
                },
        .note =
                {
                        .p_type = PT_NOTE,
                        .p_flags = PF_R,
                        .p_offset = offsetof(struct payload, pvh),
                        .p_vaddr = ADDR_OF(pvh),
                        .p_paddr = ADDR_OF(pvh),
                        .p_filesz = 20,
                        .p_memsz = 20,
                        .p_align = 4,
                },
        .pvh = {.header = {.n_namesz = 4, .n_descsz = 4, .n_type = XEN_ELFNOTE_PHYS32_ENTRY},
                .name = "Xen",
                .entry = ADDR_OF(say)},
        .say =
                {
                        0xfc,                                                           /* cld */
                        0xbe, BYTES(ADDR_OF(line)),                                     /* mov $line, %esi */
                        0xb9, BYTES(sizeof(LINE) - 1),                                  /* mov $size, %ecx */
                        0x66, 0xba, BENCH_GUEST_SERIAL & 0xff, BENCH_GUEST_SERIAL >> 8, /* mov $0x3f8, %dx */
                        0xf3, 0x6e,                                                     /* rep outsb */
                },
        .code =
                {
                        0x66, 0xba, 0x04, 0x06, /*    mov $0x604, %dx */
                        0xb0, 0x20,             /*    mov $0x20, %al    the stamp "entered" (vmm/shared/platform.h) */
                        0xee,                   /*    out %al, %dx */
                        0x66, 0xba, 0x00, 0x06, /*    mov $0x600, %dx */
                        0xb0, 0x01,             /*    mov $1, %al       power off */
                        0xee,                   /*    out %al, %dx */
                        0xf4,                   /* 1: hlt */
                        0xeb, 0xfd,             /*    jmp 1b */
                },
        .line = LINE,
};

static int write_payload(const char *path, bool says)
{
	struct payload image = payload;
	if (!says)
		image.header.e_entry = ADDR_OF(code);
	FILE *file = fopen(path, "we");
	bool written = file && fwrite(&image, sizeof(image), 1, file) == 1;
	if (file)
		written &= fclose(file) == 0;
	return written ? 0 : cli_fail("bench: cannot write %s: %s", path, strerror(errno));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* ---- The monitor alone ---- */

struct command {
	char helper[PATH_MAX], kernel[PATH_MAX], memory[16], cpus[16];
	char *argv[12];
};

/* As the library starts it, and one more option. */
static void set_command(struct command *command, const struct cli_args *args, const char *dir, const char *option)
{
	const char *libdir = cli_libdir();
	snprintf(command->helper, sizeof(command->helper), "%s/wisp-vmm", libdir ? libdir : "");
	if (args->helper)
		snprintf(command->helper, sizeof(command->helper), "%s", args->helper);
	snprintf(command->kernel, sizeof(command->kernel), "%s/payload", dir);
	snprintf(command->memory, sizeof(command->memory), "%u",
	        args->memory_mib ? args->memory_mib : WISP_MEMORY_MIB_MIN);
	snprintf(command->cpus, sizeof(command->cpus), "%u", args->cpus ? args->cpus : 1);
	union {
		const char *from[12];
		char *to[12];
	} argv = {.from = {command->helper, "--dir", dir, "--kernel", command->kernel, "--memory", command->memory,
	                  "--cpus", command->cpus, option}};
	memcpy(command->argv, argv.to, sizeof(command->argv));
}

/* Starts the monitor; *at is the time just before. Its errors are said on our standard error. */
static int start(const struct cli_args *args, const char *dir, pid_t *pid, uint64_t *at)
{
	struct command command;
	char trace[40];
	char *const environment[] = {NULL};
	posix_spawnattr_t attributes;
	sigset_t none;
	set_command(&command, args, dir, trace);
	sigemptyset(&none);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attributes, &none);
	*at = bench_now();
	snprintf(trace, sizeof(trace), "--trace=%llu", (unsigned long long)*at);
	int r = posix_spawn(pid, command.helper, NULL, &attributes, command.argv, environment);
	posix_spawnattr_destroy(&attributes);
	return r;
}

static int run_once(const struct cli_args *args, const char *dir, struct bench_sample *sample, char *why, size_t size)
{
	char path[PATH_MAX], text[8192];
	pid_t pid;
	int status;
	uint64_t begin;
	int r = start(args, dir, &pid, &begin);
	if (r != 0) {
		snprintf(why, size, "cannot start %s: %s", args->helper ? args->helper : "wisp-vmm", strerror(r));
		return -1;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	sample->at[BENCH_GONE] = bench_now();
	snprintf(path, sizeof(path), "%s/trace", dir);
	FILE *file = fopen(path, "re");
	size_t length = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
	text[length] = '\0';
	if (file)
		fclose(file);
	remove(path);
	bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0 && bench_parse_trace(text, sample);
	/* The payload's signal is the agent's first stamp. */
	sample->at[BENCH_SIGNAL] = sample->at[BENCH_INIT_ENTERED];
	sample->counted[BENCH_SIGNAL] = sample->counted[BENCH_INIT_ENTERED];
	memcpy(sample->counts[BENCH_SIGNAL], sample->counts[BENCH_INIT_ENTERED], sizeof(sample->counts[0]));
	sample->at[BENCH_INIT_ENTERED] = 0;
	sample->counted[BENCH_INIT_ENTERED] = false;
	if (good && sample->at[BENCH_SIGNAL])
		return 0;
	snprintf(
	        why, size, "the payload's signal did not arrive (exit status 0x%x): see wisp doctor", (unsigned)status);
	return -1;
}

static int run_all(struct bench *bench, const char *dir)
{
	struct bench_config *config = &bench->config[0];
	char why[200];
	int code = 0;
	size_t all = bench->warmup + bench->runs;
	for (size_t i = 0; i < all && code == 0 && !bench_poll_signal(bench, 0); i++) {
		struct bench_sample sample = {.run = i < bench->warmup ? 0 : i - bench->warmup + 1};
		bench_progress(bench, "run", i, all);
		int r = run_once(&config->args, dir, &sample, why, sizeof(why));
		if (bench_poll_signal(bench, 0))
			break;
		if (r < 0 && !config->booted)
			return cli_fail("bench: the first run failed: %s", why);
		if (r < 0)
			bench_fail_run(config, sample.run, why);
		config->booted = true;
		if (r == 0 && sample.run > 0)
			config->samples[config->count++] = sample;
	}
	return code ? code : config->failures > 0 ? CLI_EXIT_FAILED : 0;
}

/* ---- Beside a peer ---- */

static int run_side(struct bench *bench, const struct command *own, struct bench_metric *to_signal, bool counts)
{
	struct bench_side side = {.name = own ? "wisp-vmm" : "the peer", .out = -1};
	struct bench_guest_line line = {0};
	int code = own ? bench_start_program(&side, own->argv, STDERR_FILENO) : bench_start_peer(bench, &side);
	while (code == 0 && line.type != BENCH_LINE_BEGIN) {
		if (!bench_read_side(bench, &side, &line) || line.type == BENCH_LINE_FAIL) {
			code = bench_fail_side(bench, &side, &line);
			break;
		}
	}
	if (line.type == BENCH_LINE_BEGIN && counts)
		bench_add_value(to_signal, !own, (int64_t)(line.at - side.began));
	/* wisp-vmm ends by itself, and leaves its folder as the next one needs it. */
	while (code == 0 && own && bench_read_side(bench, &side, &line))
		;
	bench_stop_side(&side);
	return code;
}

static int run_beside(struct bench *bench, const char *dir)
{
	struct bench_metric *to_signal = bench_add_metric(
	        bench, "to_signal", "ns", "exec() of the monitor to the payload's first byte in a pipe", bench->runs);
	struct command own;
	size_t all = bench->warmup + bench->runs;
	int code = to_signal ? 0 : cli_fail("out of memory");
	set_command(&own, &bench->config[0].args, dir, "--console");
	for (size_t i = 0; i < all && code == 0 && !bench_poll_signal(bench, 0); i++) {
		bench_progress(bench, "run", i, all);
		code = run_side(bench, &own, to_signal, i >= bench->warmup);
		if (code == 0 && !bench->interrupted)
			code = run_side(bench, NULL, to_signal, i >= bench->warmup);
	}
	return code;
}

int bench_run_floor(struct bench *bench)
{
	char dir[PATH_MAX - 16], path[PATH_MAX];
	bool peer = bench->args->bench.peer;
	const char *tmp = getenv("TMPDIR");
	if (bench->args->bench.cold)
		return cli_fail("bench floor: what it measures is warm: leave --cold");
	snprintf(dir, sizeof(dir), "%s/wisp-floor-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return cli_fail("bench: cannot make the folder %s: %s", dir, strerror(errno));
	snprintf(path, sizeof(path), "%s/payload", dir);
	int code = write_payload(path, peer);
	if (code == 0 && bench->args->bench.payload)
		code = write_payload(bench->args->bench.payload, true);
	if (code == 0)
		code = peer ? run_beside(bench, dir) : run_all(bench, dir);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return code;
}
