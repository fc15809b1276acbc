/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "vmm/bench/manifest.h"

#define ENTRIES_MAX 320u

/* A group is an object of the JSON; "" is the manifest itself. The entries of a group are adjacent. */
struct entry {
	const char *group;
	char key[64];
	char value[512];
};

struct bench_manifest {
	size_t count;
	struct entry entry[ENTRIES_MAX];
};

static void put(struct bench_manifest *m, const char *group, const char *key, const char *value)
{
	if (m->count == ENTRIES_MAX)
		return;
	struct entry *e = &m->entry[m->count++];
	e->group = group;
	snprintf(e->key, sizeof(e->key), "%s", key);
	snprintf(e->value, sizeof(e->value), "%s", value);
}

/* The first line of a file of sysfs or proc. False if there is none. */
static bool read_line(const char *path, char *to, size_t size)
{
	FILE *file = fopen(path, "re");
	to[0] = '\0';
	if (!file)
		return false;
	bool read = fgets(to, (int)size, file);
	fclose(file);
	to[strcspn(to, "\n")] = '\0';
	return read;
}

static void put_file(struct bench_manifest *m, const char *group, const char *key, const char *path)
{
	char value[512];
	if (read_line(path, value, sizeof(value)))
		put(m, group, key, value);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

/* Each file of a directory, such as a module's parameters. */
static void put_directory(struct bench_manifest *m, const char *group, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *found;
	size_t first = m->count;
	while (dir && (found = readdir(dir))) {
		char file[512];
		if (found->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, found->d_name);
		put_file(m, group, found->d_name, file);
	}
	if (dir)
		closedir(dir);
	qsort(m->entry + first, m->count - first, sizeof(m->entry[0]), by_name);
}

static void put_cpu(struct bench_manifest *m)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[4096], count[16], *model = NULL;
	bool virtual = false;
	while (file && fgets(line, sizeof(line), file)) {
		char *colon = strstr(line, ": ");
		if (!model && colon && strncmp(line, "model name", 10) == 0) {
			line[strcspn(line, "\n")] = '\0';
			model = strdup(colon + 2);
		}
		virtual |= strncmp(line, "flags", 5) == 0 && strstr(line, " hypervisor");
	}
	if (file)
		fclose(file);
	put(m, "", "cpu", model ? model : "unknown");
	free(model);
	snprintf(count, sizeof(count), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
	put(m, "", "cpus", count);
	put(m, "", "host_is_virtual", virtual ? "yes" : "no");
	put_file(m, "", "smt", "/sys/devices/system/cpu/smt/control");
	put_file(m, "", "governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
	put_file(m, "", "no_turbo", "/sys/devices/system/cpu/intel_pstate/no_turbo");
	put_file(m, "", "boost", "/sys/devices/system/cpu/cpufreq/boost");
}

static void put_host(struct bench_manifest *m)
{
	struct utsname name;
	struct sysinfo info;
	char text[512];
	if (uname(&name) == 0) {
		snprintf(text, sizeof(text), "%s %s %s", name.sysname, name.release, name.machine);
		put(m, "", "host_kernel", text);
		put(m, "", "host_kernel_build", name.version);
	}
	put_file(m, "", "host_kernel_cmdline", "/proc/cmdline");
	if (sysinfo(&info) == 0) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)info.totalram * info.mem_unit >> 20);
		put(m, "", "memory_mib", text);
	}
	put_file(m, "", "load_before", "/proc/loadavg");
	put_file(m, "", "clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
	put_file(m, "", "thp", "/sys/kernel/mm/transparent_hugepage/enabled");
	put_file(m, "", "thp_defrag", "/sys/kernel/mm/transparent_hugepage/defrag");
	put_file(m, "", "ksm", "/sys/kernel/mm/ksm/run");
}

static void put_hash(struct bench_manifest *m, const char *group, const char *key, const char *path)
{
	char hex[65], name[80];
	put(m, group, key, path);
	snprintf(name, sizeof(name), "%s_sha256", key);
	if (bench_hash_file(path, hex))
		put(m, group, name, hex);
}

const char *bench_kernel_path(const struct bench *bench, const struct bench_setup *setup, char *buffer, size_t size)
{
	static const char *const own[] = {"up", "smp", "full"};
	const struct cli_machine *machine = &setup->machine;
	const char *name = machine->kernel ? machine->kernel : own[machine->cpus > 1];
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (strcmp(name, own[i]) != 0)
			continue;
		snprintf(buffer, size, "%s/vmlinux-%s", bench->places->libdir, name);
		return buffer;
	}
	return name;
}

static void put_config(struct bench_manifest *m, const struct bench *bench, const struct bench_config *config)
{
	char path[512], text[32];
	const struct cli_machine *machine = &config->setup.machine;
	const char *libdir = bench->places->libdir, *image = config->setup.image;
	put(m, config->label, "options", config->words);
	put_hash(m, config->label, "kernel", bench_kernel_path(bench, &config->setup, path, sizeof(path)));
	snprintf(path, sizeof(path), "%s/initramfs.cpio", libdir);
	put_hash(m, config->label, "initramfs", machine->initramfs ? machine->initramfs : path);
	snprintf(path, sizeof(path), "%s/base.squashfs", libdir);
	put_hash(m, config->label, "image", image ? image : path);
	snprintf(text, sizeof(text), "%u", machine->cpus ? (unsigned)machine->cpus : 1);
	put(m, config->label, "vcpus", text);
	snprintf(text, sizeof(text), "%u", machine->memory_mib ? machine->memory_mib : WISP_MEMORY_MIB_DEFAULT);
	put(m, config->label, "memory_mib", text);
	snprintf(text, sizeof(text), "%zu", machine->disk_count);
	put(m, config->label, "further_disks", text);
	put(m, config->label, "kernel_args", machine->kernel_args ? machine->kernel_args : "");
}

struct bench_manifest *bench_read_manifest(const struct bench *bench)
{
	struct bench_manifest *m = calloc(1, sizeof(*m));
	char text[512];
	time_t now = time(NULL);
	struct tm tm;
	if (!m)
		return NULL;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	put(m, "", "date", text);
	snprintf(text, sizeof(text), "wisp %s", wisp_get_version());
	put(m, "", "version", text);
	put(m, "", "page_cache", bench->options->cold ? "dropped before each run" : "warm");
	put_cpu(m);
	put_host(m);
	const char *monitor = bench->options->setup.machine.monitor;
	snprintf(text, sizeof(text), "%s/wisp-vmm", bench->places->libdir);
	put_hash(m, "", "monitor", monitor ? monitor : text);
	for (size_t i = 0; i < bench->config_count && strcmp(bench->verb, "floor") != 0; i++)
		put_config(m, bench, &bench->config[i]);
	put_directory(m, "mitigations", "/sys/devices/system/cpu/vulnerabilities");
	put_directory(m, "kvm", "/sys/module/kvm/parameters");
	put_directory(m, "kvm_intel", "/sys/module/kvm_intel/parameters");
	put_directory(m, "kvm_amd", "/sys/module/kvm_amd/parameters");
	return m;
}

void bench_free_manifest(struct bench_manifest *manifest)
{
	free(manifest);
}

const char *bench_get_manifest(const struct bench_manifest *m, const char *key)
{
	for (size_t i = 0; i < m->count; i++) {
		if (m->entry[i].group[0] == '\0' && strcmp(m->entry[i].key, key) == 0)
			return m->entry[i].value;
	}
	return "";
}

/* The main entries; the JSON has all of them. */
void bench_print_manifest(const struct bench_manifest *m, FILE *to)
{
	bool virtual = strcmp(bench_get_manifest(m, "host_is_virtual"), "yes") == 0;
	const char *governor = bench_get_manifest(m, "governor");
	fprintf(to, "%s, %s, on %s, %s CPUs%s, load %.4s\n", bench_get_manifest(m, "date"),
	        bench_get_manifest(m, "version"), bench_get_manifest(m, "cpu"), bench_get_manifest(m, "cpus"),
	        virtual ? " (virtual)" : "", bench_get_manifest(m, "load_before"));
	fprintf(to, "%s, governor %s, huge pages %s, page cache %s\n", bench_get_manifest(m, "host_kernel"),
	        governor[0] ? governor : "unknown", bench_get_manifest(m, "thp"), bench_get_manifest(m, "page_cache"));
}

void bench_json_manifest(const struct bench_manifest *m, struct cli_json *json)
{
	const char *group = "";
	cli_json_open(json, "manifest", '{');
	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entry[i];
		if (strcmp(group, e->group) != 0) {
			if (group[0])
				cli_json_close(json, '}');
			cli_json_open(json, e->group, '{');
			group = e->group;
		}
		cli_json_string(json, e->key, e->value);
	}
	if (group[0])
		cli_json_close(json, '}');
	cli_json_close(json, '}');
}
