/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor: the monitor's own time, from its exec() to its guest's first signal and to its end. The guest is a few
 * instructions, which any /dev/kvm runs natively. The library starts it without disks and initramfs. With --peer,
 * another monitor starts the same guest in interleaved runs. Both are then timed from exec() to the line that the guest
 * writes to the first serial port, which the monitor copies to a pipe.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench/side.h"

#define PAYLOAD_ADDR 0x100000u
#define XEN_ELFNOTE_PHYS32_ENTRY 18u

/*
 * The payload as an ELF file. wisp enters it in 64-bit mode at e_entry; monitors that support PVH enter it in 32-bit
 * mode at the address in the note. The instructions mean the same in both modes. Without a peer, the stamp is the
 * signal, and execution starts after the instructions that write to the serial port.
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
	/* `fill`, for clones: touches pages from FILL_ADDR on, and then signals again and again. */
	uint8_t say[17], code[20], fill[33];
	char line[sizeof(LINE)];
};

#define FILL_ADDR 0x1000000
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
        .fill =
                {
                        0xb9, BYTES(0),          /*    mov $pages, %ecx */
                        0xbf, BYTES(FILL_ADDR),  /*    mov $address, %edi */
                        0xe3, 0x0c,              /*    jrcxz 2f */
                        0x89, 0x0f,              /* 1: mov %ecx, (%rdi) */
                        0x81, 0xc7, BYTES(4096), /*    add $4096, %edi */
                        0xff, 0xc9,              /*    dec %ecx */
                        0x75, 0xf4,              /*    jnz 1b */
                        0x66, 0xba, 0x04, 0x06,  /* 2: mov $0x604, %dx */
                        0xb0, 0x20,              /*    mov $0x20, %al */
                        0xee,                    /* 3: out %al, %dx */
                        0xeb, 0xfd,              /*    jmp 3b */
                },
        .line = LINE,
};

static int write_image(const char *path, const struct payload *image)
{
	FILE *file = fopen(path, "we");
	bool written = file && fwrite(image, sizeof(*image), 1, file) == 1;
	if (file)
		written &= fclose(file) == 0;
	return written ? 0 : cli_fail("bench: cannot write to %s: %s", path, strerror(errno));
}

static int write_payload(const char *path, bool says)
{
	struct payload image = payload;
	if (!says)
		image.header.e_entry = ADDR_OF(code);
	return write_image(path, &image);
}

int bench_write_filler(const char *path, uint32_t pages)
{
	struct payload image = payload;
	image.header.e_entry = ADDR_OF(fill);
	memcpy(image.fill + 1, &pages, sizeof(pages));
	return write_image(path, &image);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* ---- The monitor alone ---- */

/* Starts the payload in `dir`. What it prints goes to console_fd, if that is not 0. */
static int start(const struct bench *bench, const char *dir, int console_fd, struct wisp_sandbox **sandbox,
        struct wisp_error *error)
{
	const struct cli_machine *machine = &bench->config[0].setup.machine;
	char kernel[PATH_MAX + 16];
	snprintf(kernel, sizeof(kernel), "%s/payload", dir);
	struct wisp_create_options options = {.size = sizeof(options),
	        .state_root = dir,
	        .libdir = bench->places->libdir,
	        .helper = machine->monitor,
	        .kernel = kernel,
	        .cpus = (uint32_t)machine->cpus,
	        .memory_mib = machine->memory_mib ? machine->memory_mib : WISP_MEMORY_MIB_MIN,
	        .bare = true,
	        .no_wait = true,
	        .keep = true,
	        .trace = true,
	        .jail = cli_jail_mode(machine),
	        .console = console_fd > 0,
	        .console_fd = console_fd > 0 ? &console_fd : NULL};
	return wisp_create_sandbox(&options, sandbox, error);
}

/* Waits for the end, reads the trace, and removes the sandbox. Returns when it was gone, or 0 after an error. */
static uint64_t finish(const char *dir, struct wisp_sandbox *sandbox, struct bench_sample *sample)
{
	char *text, name[WISP_NAME_MAX + 1];
	enum wisp_end end = WISP_END_UNKNOWN;
	snprintf(name, sizeof(name), "%s", wisp_get_sandbox_name(sandbox));
	int r = wisp_wait_sandbox(sandbox, -1, &end, NULL);
	uint64_t gone = bench_now();
	bool good = r == 0 && end == WISP_END_POWEROFF && wisp_read_trace(dir, name, &text, NULL, NULL) == 0;
	if (good) {
		good = bench_parse_trace(text, sample);
		wisp_free_text(text);
	}
	wisp_close_sandbox(sandbox);
	wisp_remove_sandbox(dir, name, NULL);
	return good ? gone : 0;
}

static int run_once(const struct bench *bench, const char *dir, struct bench_sample *sample, char *why, size_t size)
{
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	if (start(bench, dir, 0, &sandbox, &error) < 0) {
		snprintf(why, size, "%s", error.message);
		return -1;
	}
	sample->at[BENCH_GONE] = finish(dir, sandbox, sample);
	/* The payload sends its signal as the agent sends its first stamp. */
	sample->at[BENCH_SIGNAL] = sample->at[BENCH_INIT_ENTERED];
	sample->counted[BENCH_SIGNAL] = sample->counted[BENCH_INIT_ENTERED];
	memcpy(sample->counts[BENCH_SIGNAL], sample->counts[BENCH_INIT_ENTERED], sizeof(sample->counts[0]));
	sample->at[BENCH_INIT_ENTERED] = 0;
	sample->counted[BENCH_INIT_ENTERED] = false;
	if (sample->at[BENCH_GONE] && sample->at[BENCH_SIGNAL])
		return 0;
	snprintf(why, size, "the payload's signal did not arrive; see wisp doctor");
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
		int r = run_once(bench, dir, &sample, why, sizeof(why));
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

/* ---- Compared with a peer ---- */

/* Waits for the payload's first line. */
static int await_line(struct bench *bench, struct bench_side *side, struct bench_guest_line *line)
{
	while (line->type != BENCH_LINE_BEGIN) {
		if (!bench_read_side(bench, side, line) || line->type == BENCH_LINE_FAIL)
			return bench_fail_side(bench, side, line);
	}
	return 0;
}

static int run_own(struct bench *bench, const char *dir, struct bench_metric *to_signal, bool counts)
{
	struct bench_side side = {.name = "wisp-vmm", .out = -1};
	struct bench_guest_line line = {0};
	struct bench_sample sample = {0};
	struct wisp_sandbox *sandbox;
	struct wisp_error error;
	int out[2];
	if (pipe2(out, O_CLOEXEC) < 0)
		return cli_fail("bench: cannot make a pipe: %s", strerror(errno));
	side.out = out[0];
	int r = start(bench, dir, out[1], &sandbox, &error);
	close(out[1]);
	int code = r < 0 ? cli_fail_error(&error) : await_line(bench, &side, &line);
	if (r == 0 && !finish(dir, sandbox, &sample) && code == 0)
		code = cli_fail("bench: the payload did not end; see wisp doctor");
	if (code == 0 && counts)
		bench_add_value(to_signal, false, (int64_t)(line.at - sample.at[BENCH_SPAWN]));
	bench_stop_side(&side);
	return code;
}

static int run_peer(struct bench *bench, struct bench_metric *to_signal, bool counts)
{
	struct bench_side side = {.name = "the peer", .out = -1};
	struct bench_guest_line line = {0};
	int code = bench_start_peer(bench, &side);
	if (code == 0)
		code = await_line(bench, &side, &line);
	if (code == 0 && counts)
		bench_add_value(to_signal, true, (int64_t)(line.at - side.began));
	bench_stop_side(&side);
	return code;
}

static int run_with_peer(struct bench *bench, const char *dir)
{
	struct bench_metric *to_signal = bench_add_metric(
	        bench, "to_signal", "ns", "exec() of the monitor to the payload's first byte in a pipe", bench->runs);
	size_t all = bench->warmup + bench->runs;
	int code = to_signal ? 0 : cli_fail("out of memory");
	for (size_t i = 0; i < all && code == 0 && !bench_poll_signal(bench, 0); i++) {
		bench_progress(bench, "run", i, all);
		code = run_own(bench, dir, to_signal, i >= bench->warmup);
		if (code == 0 && !bench->interrupted)
			code = run_peer(bench, to_signal, i >= bench->warmup);
	}
	return code;
}

int bench_make_dir(char *dir)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, PATH_MAX - 32, "%s/wisp-bench-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
	return mkdtemp(dir) ? 0 : cli_fail("bench: cannot create the directory %s: %s", dir, strerror(errno));
}

void bench_remove_dir(const char *dir)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int bench_run_floor(struct bench *bench)
{
	char dir[PATH_MAX], path[PATH_MAX + 16];
	bool peer = bench->options->peer;
	if (bench->options->cold)
		return cli_fail("bench floor: it measures the warm case; omit --cold");
	int code = bench_make_dir(dir);
	if (code)
		return code;
	snprintf(path, sizeof(path), "%s/payload", dir);
	code = write_payload(path, peer);
	if (code == 0 && bench->options->payload)
		code = write_payload(bench->options->payload, true);
	if (code == 0)
		code = peer ? run_with_peer(bench, dir) : run_all(bench, dir);
	bench_remove_dir(dir);
	return code;
}
