/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target over every file of the directories given: the corpus as a test, without a fuzzer. Fails
 * when it read none. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc(size > 0 ? size : 1);
	int rc = -1;

	if (file && data && fread(data, 1, size, file) == size) {
		LLVMFuzzerTestOneInput(data, size);
		rc = 0;
	}
	if (rc != 0)
		fprintf(stderr, "replay: cannot read %s\n", path);
	if (file)
		fclose(file);
	free(data);
	return rc;
}

static int run_dir(const char *path, unsigned *count)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int rc = 0;

	if (!dir) {
		perror(path);
		return -1;
	}
	while (rc == 0 && (entry = readdir(dir))) {
		char name[4096];
		struct stat st;

		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (stat(name, &st) != 0 || !S_ISREG(st.st_mode))
			continue;
		rc = run_file(name, (size_t)st.st_size);
		++*count;
	}
	closedir(dir);
	return rc;
}

int main(int argc, char **argv)
{
	unsigned count = 0;

	for (int i = 1; i < argc; i++)
		if (run_dir(argv[i], &count) != 0)
			return 1;
	printf("replay: %u files\n", count);
	return count > 0 ? 0 : 1;
}
