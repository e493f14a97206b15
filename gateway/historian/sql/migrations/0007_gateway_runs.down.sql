-- Which processes there have been is forgotten; nothing else knows of them.

DROP TABLE andon.gateway_run;
