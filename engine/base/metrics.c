/* SPDX-License-Identifier: MIT */
/* Metrics as text, and their file (sosie/metrics.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "sosie/bytes.h"
#include "sosie/clock.h"
#include "sosie/metrics.h"

void sosie_metrics_family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void label(FILE *out, const char *name, const char *text)
{
	fprintf(out, "%s=\"", name);
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", out);
		else
			fprintf(out, "%s%c", *text == '\\' || *text == '"' ? "\\" : "", *text);
	}
	fputc('"', out);
}

void sosie_metrics_sample(FILE *out, const char *name, double value, ...)
{
	const char *key;
	unsigned count = 0;
	va_list ap;

	fputs(name, out);
	va_start(ap, value);
	while ((key = va_arg(ap, const char *)) != NULL) {
		fputc(count++ ? ',' : '{', out);
		label(out, key, va_arg(ap, const char *));
	}
	va_end(ap);
	fprintf(out, "%s %.15g\n", count ? "}" : "", value);
}

void sosie_metrics_time(FILE *out, const char *name, int64_t wall_ms)
{
	sosie_metrics_family(out, name, "gauge", "When this file was written.");
	fprintf(out, "%s %.3f\n", name, (double)wall_ms / 1000);
}

static int new_beside(const char *path, char *name, size_t size, int *fd)
{
	char digits[17];
	unsigned char dice[8];

	for (unsigned tries = 0; tries < 100; tries++) {
		/* Of the machine: those of a test's clock could be foreseen. */
		if (sosie_random(sosie_clock_real(), dice, sizeof(dice), NULL) != 0)
			return EIO;
		sosie_hex(digits, dice, sizeof(dice));
		int len = snprintf(name, size, "%s.tmp.%s", path, digits);
		if (len < 0 || (size_t)len >= size)
			return ENAMETOOLONG;
		*fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (*fd >= 0)
			return 0;
		if (errno != EEXIST)
			return errno;
	}
	return EEXIST;
}

int sosie_metrics_replace(const char *path, const char *text, size_t len)
{
	char temporary[4200];
	int fd, rc = new_beside(path, temporary, sizeof(temporary), &fd);

	if (rc != 0)
		return rc;
	while (rc == 0 && len > 0) {
		ssize_t n = write(fd, text, len);

		if (n >= 0)
			text += n, len -= (size_t)n;
		else if (errno != EINTR)
			rc = errno;
	}
	if (close(fd) != 0 && rc == 0)
		rc = errno;
	if (rc == 0 && rename(temporary, path) != 0)
		rc = errno;
	if (rc != 0)
		unlink(temporary);
	return rc;
}
