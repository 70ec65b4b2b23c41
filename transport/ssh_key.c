/* SPDX-License-Identifier: MIT */
/* Public keys: the file beside a private one, and fingerprints as ssh-keygen -l prints them. */
#include "ssh.h"

#include "sosie/bytes.h"
#include "sosie/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUBLIC_MAX 16384u

char *ssh_file_read(const char *path, size_t max, size_t *len)
{
	struct stat st;
	char *text = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	*len = 0;
	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && (size_t)st.st_size <= max &&
	    (text = malloc((size_t)st.st_size + 1))) {
		ssize_t n = 0;
		while (*len < (size_t)st.st_size &&
		       (n = read(fd, text + *len, (size_t)st.st_size - *len)) > 0)
			*len += (size_t)n;
		text[*len] = '\0';
	}
	close(fd);
	return text;
}

/* "SHA256:…" of a key blob. */
void ssh_print_key(char dst[64], const void *blob, size_t len)
{
	struct sosie_digest d;
	strcpy(dst, "?");
	if (sosie_sha256(blob, len, &d))
		sosie_fingerprint(dst, &d);
}

static bool is_public(const char *text)
{
	return !strncmp(text, "ssh-", 4) || !strncmp(text, "ecdsa-", 6) || !strncmp(text, "sk-", 3);
}

enum ssh_identity ssh_identity_of(const char *path, int *sys)
{
	/* "openssh-key-v1", NUL, and the length and name of its cipher. */
	static const char plain[] = "\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU", packed[] = "\nb3BlbnNzaC1rZXktdjEA";
	enum ssh_identity kind = SSH_IDENTITY_OTHER;
	size_t len;
	errno = 0;
	char *text = ssh_file_read(path, PUBLIC_MAX, &len);
	*sys = text ? 0 : errno;
	if (!text)
		return *sys ? SSH_IDENTITY_UNREADABLE : SSH_IDENTITY_OTHER;
	if (is_public(text))
		kind = SSH_IDENTITY_PUBLIC;
	else if (!strncmp(text, "-----BEGIN ", 11) && strstr(text, "PRIVATE KEY-----"))
		kind = strstr(text, "ENCRYPTED") || (strstr(text, packed) && !strstr(text, plain))
		               ? SSH_IDENTITY_LOCKED
		               : SSH_IDENTITY_PRIVATE;
	explicit_bzero(text, len);
	free(text);
	return kind;
}

/* The blob of IDENTITY.pub: "type base64 comment". malloc'd; NULL when there is no such file. */
uint8_t *ssh_public_key(const char *path, size_t *len)
{
	size_t text_len, at = 0;
	char *text = ssh_file_read(path, PUBLIC_MAX, &text_len);
	uint8_t *blob = text ? malloc(text_len + 1) : NULL;
	const char *s = blob ? strchr(text, ' ') : NULL;
	bool whole = s && sosie_unbase64(s + 1, strcspn(s + 1, " \t\r\n"), blob, text_len, &at);
	free(text);
	*len = at;
	if (whole)
		return blob;
	free(blob);
	return NULL;
}
