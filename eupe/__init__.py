"""The three-stage distillation of EUPE: experts into a proxy, the proxy into small students."""
