/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of a measurement: without it a figure is a number. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "vmm/bench/bench.h"

#define ENTRIES_MAX 320u

/* Groups are objects of the JSON; "" is the manifest itself. Those of a group follow each other. */
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

/* The first line of a file of sysfs or proc; nothing where there is none. */
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

/* Each file of a folder: a module's parameters, the vulnerabilities. */
static void put_folder(struct bench_manifest *m, const char *group, const char *path)
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

const char *bench_kernel_path(const struct cli_args *args, char *buffer, size_t size)
{
	const char *libdir = cli_libdir();
	if (args->kernel)
		return args->kernel;
	snprintf(buffer, size, "%s/%s", libdir ? libdir : "", args->cpus > 1 ? "vmlinux-smp" : "vmlinux-up");
	return buffer;
}

static void put_config(struct bench_manifest *m, const struct bench_config *config)
{
	char path[512], text[32];
	const struct cli_args *args = &config->args;
	const char *libdir = cli_libdir();
	put(m, config->label, "options", config->words);
	put_hash(m, config->label, "kernel", bench_kernel_path(args, path, sizeof(path)));
	snprintf(path, sizeof(path), "%s/initramfs.cpio", libdir ? libdir : "");
	put_hash(m, config->label, "initramfs", args->initramfs ? args->initramfs : path);
	snprintf(path, sizeof(path), "%s/base.squashfs", libdir ? libdir : "");
	put_hash(m, config->label, "image", args->operand_count > 0 ? args->operands[0] : path);
	snprintf(text, sizeof(text), "%u", args->cpus ? args->cpus : 1);
	put(m, config->label, "vcpus", text);
	snprintf(text, sizeof(text), "%u", args->memory_mib ? args->memory_mib : WISP_MEMORY_MIB_DEFAULT);
	put(m, config->label, "memory_mib", text);
	snprintf(text, sizeof(text), "%zu", args->disk_count);
	put(m, config->label, "further_disks", text);
	put(m, config->label, "kernel_args", args->kernel_args ? args->kernel_args : "");
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
	put(m, "", "page_cache", bench->args->bench.cold ? "dropped before each run" : "warm");
	put_cpu(m);
	put_host(m);
	const char *libdir = cli_libdir();
	snprintf(text, sizeof(text), "%s/wisp-vmm", libdir ? libdir : "");
	put_hash(m, "", "monitor", bench->args->helper ? bench->args->helper : text);
	for (size_t i = 0; i < bench->config_count && strcmp(bench->verb, "floor") != 0; i++)
		put_config(m, &bench->config[i]);
	put_folder(m, "mitigations", "/sys/devices/system/cpu/vulnerabilities");
	put_folder(m, "kvm", "/sys/module/kvm/parameters");
	put_folder(m, "kvm_intel", "/sys/module/kvm_intel/parameters");
	put_folder(m, "kvm_amd", "/sys/module/kvm_amd/parameters");
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

/* What a reader looks for first; all of it is in the JSON. */
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
